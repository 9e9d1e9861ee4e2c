"""One of the databases that share a server moves to another server: a replica of the server follows, and is promoted."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from core_tables.cli import wiring
from core_tables.deploy import stack as local_stack
from core_tables.schemas.reasons import UnavailableError
from tests.builders import day, tenant_of_lane
from tests.leftovers import note
from tests.oracle import check_everything
from tests.world import World, new_world, other_settings, wait_until

from .conftest import Recovery
from .test_backup import back_up_postgres, folder, put_back

__all__ = ["folder"]  # a fixture
pytestmark = pytest.mark.stack


@pytest.fixture
def elsewhere(folder: Path) -> Iterator[Path]:
    """A second server with the password of the first."""
    path = note(Path(tempfile.mkdtemp(prefix="core-tables-moved-")))
    path.chmod(0o755)
    shutil.copy(folder / "password", path / "password")
    try:
        local_stack.start_part(path, "postgres")
        yield path
    finally:
        local_stack.down(path, print, wipe=True)
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def two(folder: Path) -> World:
    """A ledger with two databases on one server."""
    alone = new_world(local_stack.up(folder, print))
    names = [f"{alone.name}{letter}" for letter in "ab"]
    for name in names:
        alone.admin.execute(f"create database {name}".encode())
    alone.close()
    topics = {"topic": f"{alone.name}.two", "audit_topic": f"{alone.name}.two.audit"}
    world = other_settings(alone, **topics, postgres_lanes=f"0-5=dbname={names[0]};6-11=dbname={names[1]}")
    world.init()
    wait_until(world.answers, "the broker to lead the new topic")
    return world


@pytest.mark.skipif("FAULT_ROUNDS" not in os.environ, reason="a second server, and a copy of the first: `make faults`")
def test_a_database_moves_to_a_promoted_replica(
    two: World, folder: Path, elsewhere: Path, tmp_path: Path, recovery: Recovery
) -> None:
    world, (first, second) = two, two.settings.databases()
    world.append(*day(600))
    with world.working():
        back_up_postgres(first.admin(), folder, tmp_path / "copy", "-R")
        local_stack.stop_part(elsewhere, "postgres")
        put_back(tmp_path / "copy", elsewhere / "postgres" / "data")
        local_stack.start_part(elsewhere, "postgres")
        world.append(*day(300, seed=2))
        world.drain()
    world.append(*day(200, seed=3))  # appends continue while no worker runs
    (part,) = (part for part in local_stack.status(elsewhere) if part.name == "postgres")
    port = (part.address or "").rpartition(":")[2]
    with recovery("a database moved to a promoted replica"):
        _promote(first.admin(), port)
        world.admin.execute(f"alter database {world.name}b allow_connections false".encode())
        lanes = f"0-5=dbname={world.name}a;6-11=host=127.0.0.1 port={port} dbname={world.name}b"
        moved = other_settings(world, postgres_lanes=lanes)
        with moved.working():
            moved.drain()
    check_everything(moved, 1100)
    with pytest.raises(UnavailableError):  # a program that still has the former address
        wiring.reads(second).until(0.0).current(tenant_of_lane(6), "order-1")
    moved.close()
    world.close()


def _promote(primary: str, port: str) -> None:
    """Wait until the replica has everything, and make it a server of its own."""
    with (
        psycopg.connect(primary, autocommit=True) as before,
        psycopg.connect(primary, port=port, autocommit=True) as after,
    ):
        ((end,),) = before.execute("select pg_current_wal_flush_lsn()").fetchall()
        followed = "select pg_last_wal_replay_lsn() >= %s::pg_lsn"
        wait_until(lambda: after.execute(followed, [end]).fetchall() == [(True,)], "the replica to have everything")
        assert after.execute("select pg_promote(true, 60)").fetchall() == [(True,)]
