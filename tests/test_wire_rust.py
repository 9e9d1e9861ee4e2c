"""A third language: a Rust program that encodes by itself holds to the vectors, and what it appends is accepted."""

import json
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from core_tables import event_to_json
from core_tables.schemas.avro_schema import LEDGER_SCHEMA
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Accepted, Replayed
from core_tables.schemas.wire import encode_event

from .builders import make
from .world import World

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parent.parent
CRATE = ROOT / "tests" / "rust"
SCHEMA = ROOT / "schemas" / "avro" / f"{LEDGER_SCHEMA}.avsc"
VECTORS = ROOT / "schemas" / "vectors" / "wire.v1.json"
# Outside of the tree, so that a fresh clone does not build it again.
BUILT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "core-tables" / "rust"
PKG_CONFIG = """
Name: rdkafka
Description: the librdkafka of confluent-kafka's wheel
Version: 2.16.0
Libs: -L{folder} -lrdkafka
"""


def librdkafka() -> Path | None:
    """The library in confluent-kafka's wheel: to build it once more would take longer than all else here."""
    spec = find_spec("confluent_kafka")
    folders = [] if spec is None or spec.origin is None else [Path(spec.origin).parents[1] / "confluent_kafka.libs"]
    return next((path for folder in folders for path in folder.glob("librdkafka*.so*")), None)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The program, built; without cargo, its registry or the library these tests are skipped."""
    library = librdkafka()
    for tool in ("cargo", "pkg-config", "cc"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed here, so appending from Rust is not tested")
    if library is None:
        pytest.skip("confluent-kafka is no wheel here, so there is no librdkafka to link with")
    folder = tmp_path_factory.mktemp("librdkafka")
    (folder / "librdkafka.so").symlink_to(library)
    (folder / "rdkafka.pc").write_text(PKG_CONFIG.format(folder=folder))
    environment = {**os.environ, "PKG_CONFIG_PATH": str(folder), "CARGO_TARGET_DIR": str(BUILT)}
    fetched = subprocess.run(
        ["cargo", "fetch", "--locked"], cwd=CRATE, env=environment, capture_output=True, text=True, timeout=120
    )
    if fetched.returncode:
        pytest.skip(f"the crates cannot be had here, so appending from Rust is not tested: {fetched.stderr[-300:]}")
    build = ["cargo", "build", "--quiet", "--locked", "--offline", "--features", "dynamic"]
    built = subprocess.run(build, cwd=CRATE, env=environment, capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stderr
    return ["env", f"LD_LIBRARY_PATH={library.parent}", str(BUILT / "debug" / "append-without-our-code")]


def test_rust_chooses_the_partitions_and_writes_the_bytes_of_the_vectors(program: list[str]) -> None:
    done = subprocess.run([*program, "vectors", str(SCHEMA), str(VECTORS)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "28 events\n"


def test_the_worker_accepts_what_rust_appends_and_takes_it_for_the_same_event_as_ours(
    world: World, program: list[str]
) -> None:
    of = {"tenant_id": "rust-tenant", "work_order_id": "order-1"}
    events = [
        make("WORK_ORDER_CREATED", **of, idempotency_key="create"),
        make("STEP_STARTED", **of),
        make("LEASE_ACQUIRED", **of),
        make("WORK_ORDER_CANCELED", **of),
    ]
    lines = "".join(json.dumps(event_to_json(event)) + "\n" for event in events)
    append = [*program, "append", str(SCHEMA), world.settings.kafka_servers(), world.settings.topic, "12"]
    with world.working():
        done = subprocess.run(append, input=lines, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        places = [line.split() for line in done.stdout.splitlines()]
        ids = [event_id_at(int(partition), int(offset)) for partition, offset, _ in places]
        first, *_ = ids
        assert world.outcome(events[0]) == Replayed(first, request_differs=False)
    assert [bytes.fromhex(value) for _, _, value in places] == [encode_event(event) for event in events]
    assert world.reads.outcomes("rust-tenant", ids) == dict.fromkeys(ids, Accepted())
    assert {int(partition) for partition, _, _ in places} == {partition_of(b"rust-tenant", 12)}
