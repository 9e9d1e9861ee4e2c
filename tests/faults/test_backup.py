"""Backup and restore: topic and Postgres, the topic alone, and a topic that is lost for good."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from core_tables.deploy import stack as local_stack
from core_tables.deploy.parts import Postgres
from core_tables.schemas.outcomes import Accepted, Replayed
from tests.builders import day, make
from tests.leftovers import note
from tests.oracle import check_everything
from tests.world import World, new_world

from .conftest import Recovery

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A local stack of this module's own, whose data may be exchanged; others may enter it, Postgres' user among them."""
    path = note(Path(tempfile.mkdtemp(prefix="core-tables-backup-")))
    path.chmod(0o755)
    try:
        yield path
    finally:
        local_stack.down(path, print, wipe=True)
        shutil.rmtree(path, ignore_errors=True)


def back_up_postgres(dsn: str, folder: Path, to: Path, *more: str) -> None:
    """pg_basebackup, while the worker works; `more` are options of it."""
    start = Postgres().prepare(folder / "postgres", 0, print)
    parameters = conninfo_to_dict(dsn)
    command = [str(Path(start.command[0]).with_name("pg_basebackup")), "-D", str(to), "-X", "stream", "-c", "fast"]
    where = ["-h", str(parameters["host"]), "-p", str(parameters["port"]), "-U", "postgres"]
    environment = {**os.environ, "PGPASSWORD": str(parameters["password"])}
    subprocess.run([*command, *where, *more], env=environment, check=True, capture_output=True, timeout=60, cwd="/")


def back_up_kafka(folder: Path, to: Path) -> None:
    """The broker's disk, as a snapshot of it would be: offsets are part of it."""
    local_stack.stop_part(folder, "kafka")
    copy(folder / "kafka" / "data", to)
    local_stack.start_part(folder, "kafka")


def copy(data: Path, to: Path) -> None:
    """With cp, which keeps files sparse: each partition has 20 MB of index files that are nearly empty."""
    subprocess.run(["cp", "--archive", str(data), str(to)], check=True, timeout=60)


def put_back(backup: Path, data: Path) -> None:
    owner = data.stat()
    shutil.rmtree(data)
    copy(backup, data)
    for path in (data, *data.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    data.chmod(0o700)


def test_topic_and_postgres_are_restored_and_then_postgres_alone_from_the_same_older_copy(
    folder: Path, tmp_path: Path, recovery: Recovery
) -> None:
    """The copy of Postgres is the older one: workers fold forward, and audit nothing twice."""
    world = new_world(local_stack.up(folder, print))
    world.append(*day(600))
    with world.working():
        world.drain()
        world.append(*day(300, seed=2))
        back_up_postgres(world.settings.admin(), folder, tmp_path / "postgres")
        world.drain()
    back_up_kafka(folder, tmp_path / "kafka")
    in_the_copies = dict(world.acknowledged)
    world.close()
    world.reconnect()
    world.append(*day(200, seed=3))
    with world.working():
        world.drain()
    world.close()
    local_stack.down(folder, print)
    put_back(tmp_path / "postgres", folder / "postgres" / "data")
    put_back(tmp_path / "kafka", folder / "kafka" / "data")
    local_stack.up(folder, print)
    world.reconnect()
    world.acknowledged = in_the_copies
    with recovery("topic and Postgres restored from copies"), world.working():
        world.drain()
    world.append(*day(100, seed=4))
    with world.working():
        world.drain()
    check_everything(world, 1000)
    restore_postgres_alone(world, folder, tmp_path / "postgres")
    assert sum(applied for applied, _ in world.positions().values()) <= 900, "the copy is older than the topic"
    with recovery("Postgres alone restored from a copy"), world.working():
        world.append(*day(100, seed=5))
        world.drain()
    check_everything(world, 1100)


def restore_postgres_alone(world: World, folder: Path, backup: Path) -> None:
    world.close()
    local_stack.stop_part(folder, "postgres")
    put_back(backup, folder / "postgres" / "data")
    local_stack.start_part(folder, "postgres")
    world.reconnect()


def test_a_topic_restored_from_a_copy_older_than_postgres_stops_its_lanes(folder: Path, tmp_path: Path) -> None:
    """Ids are positions: continuing would give new records the ids of lost ones."""
    world = new_world(local_stack.up(folder, print), partitions=1)
    world.append(*day(100))
    with world.working():
        world.drain()
    back_up_kafka(folder, tmp_path / "kafka")
    world.close()
    world.reconnect()
    world.append(*day(50, seed=2))
    with world.working():
        world.drain()
    world.close()
    local_stack.down(folder, print)
    put_back(tmp_path / "kafka", folder / "kafka" / "data")
    local_stack.up(folder, print)
    world.reconnect()
    with world.working() as running:
        running.thread.join(30)
    assert "the log ends at offset 100" in str(running.errors[0])
    assert world.positions()[0][0] == 150, "nothing was changed"


def test_a_topic_that_is_lost_is_followed_by_one_whose_lanes_continue(world: World) -> None:
    """History stays in Postgres under its ids; keys bound there stay bound."""
    fresh = new_world(world.stack)
    created = make("WORK_ORDER_CREATED", idempotency_key="create")
    (first,) = fresh.append(created)
    first_id = first.event_id()
    with fresh.working():
        fresh.drain()
    names = {"topic": f"{fresh.name}.ledger.v2", "audit_topic": f"{fresh.name}.audit.v2", "group_id": f"{fresh.name}-2"}
    fresh.close()
    fresh.settings = fresh.settings.model_copy(update=names)
    fresh.reconnect()
    assert any("12 lanes" in line for line in fresh.init())
    with fresh.working():
        assert fresh.outcome(created) == Replayed(first_id, request_differs=False)
        (second,) = fresh.append(make("FIELD_SET"))
        assert second.outcome(30) == Accepted()
    assert second.event_id() > first_id
    assert [entry.work_order_event_id for entry in fresh.reads.ledger("acme")] == [first_id, second.event_id()]
    current = fresh.reads.current("acme", "order-1")
    assert current is not None
    assert current.last_event_id == second.event_id()
    assert fresh.verify().differences == []
