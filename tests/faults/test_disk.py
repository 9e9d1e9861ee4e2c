"""Disks that are full: a small file system of the part's own, filled up to the last byte, then freed."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core_tables.deploy import stack as local_stack
from core_tables.deploy.parts import PartName
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.reasons import UnavailableError
from tests.builders import day, make
from tests.leftovers import clear_mounts, note
from tests.oracle import check_everything
from tests.world import World, new_world, wait_until

from .conftest import Recovery

pytestmark = pytest.mark.stack

MEGABYTE = 1 << 20


class SmallDisk:
    """A stack one part of which lives on a file system of a few megabytes."""

    def __init__(self, part: PartName, megabytes: int) -> None:
        self.part = part
        self.world: World | None = None
        self.folder = note(Path(tempfile.mkdtemp(prefix="core-tables-disk-")))
        self.folder.chmod(0o755)
        self.mounted = self.folder / part
        self.mounted.mkdir()
        options = f"size={megabytes}m,mode=755"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.mounted)], capture_output=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")

    def start(self) -> World:
        """Start the stack; a world on it, set up."""
        self.world = new_world(local_stack.up(self.folder, print))
        return self.world

    def fill(self) -> None:
        """Take all that is left."""
        with (self.mounted / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(bytes(4096)):
                pass

    def free(self) -> None:
        """Give it back, and start the part if it did not outlive that."""
        (self.mounted / "ballast").unlink()
        wait_until(self._starts, f"{self.part} to start")

    def _starts(self) -> bool:
        try:
            local_stack.start_part(self.folder, self.part)
        except Exception as error:  # it may be ending just now
            print(error)
            return False
        return True

    def close(self) -> None:
        """Stop what runs, unmount, remove."""
        if self.world is not None:
            self.world.close()
        local_stack.down(self.folder, print, wipe=True)
        clear_mounts(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def small_disk() -> Iterator[Callable[[PartName, int], SmallDisk]]:
    """Make a small disk for a part; skips where nothing can be mounted."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    made: list[SmallDisk] = []

    def make_one(part: PartName, megabytes: int) -> SmallDisk:
        made.append(SmallDisk(part, megabytes))
        return made[-1]

    try:
        yield make_one
    finally:
        for disk in made:
            disk.close()


def test_a_full_disk_of_postgres_costs_nothing_but_time(
    small_disk: Callable[[PartName, int], SmallDisk], recovery: Recovery
) -> None:
    disk = small_disk("postgres", 200)
    world = disk.start()
    with world.working(batch_size=200) as running:
        world.append(*day(400))
        world.drain()
        disk.fill()
        world.append(*day(8000, seed=2, orders=400))
        reopened = wait_until(lambda: running.log_lines("lane_reopens"), "the full disk to be felt")
        disk.free()
        with recovery("Postgres' disk full"):
            world.close()
            world.reconnect()
            world.drain(180)
    assert running.errors == []
    assert "Postgres does not answer as it should" in reopened[0]["cause"]
    check_everything(world, 8400)


def test_a_full_disk_of_kafka_loses_nothing_that_was_acknowledged(
    small_disk: Callable[[PartName, int], SmallDisk], recovery: Recovery
) -> None:
    """A send without an answer is unknown; sent again under its key, it is in the ledger once."""
    disk = small_disk("kafka", 100)
    world = disk.start()
    world.settings = world.settings.model_copy(update={"kafka": {"delivery.timeout.ms": "4000"}})
    world.close()
    world.reconnect()
    events = [
        make("WORK_ORDER_CREATED", work_order_id=f"order-{number}", idempotency_key=f"key-{number}")
        for number in range(600)
    ]
    with world.working() as running:
        world.append(*events[:200])
        world.drain()
        disk.fill()
        unknown = [event for event in events[200:] if not acknowledged(world, event, disk)]
        assert unknown, "the disk was full"
        disk.free()
        with recovery("Kafka's disk full"):
            world.close()
            world.settings = world.settings.model_copy(
                update={"kafka": {}}
            )  # it may be a while until every lane has a leader
            world.reconnect()
            world.append(*unknown)
            world.drain(180)
    assert running.errors == []
    keys = [entry.event.idempotency_key for entry in world.reads.ledger("acme", page_size=1000)]
    assert sorted(str(key) for key in keys) == sorted(str(event.idempotency_key) for event in events)
    check_everything(world, sum(world.log_ends().values()), unknown=unknown)


def acknowledged(world: World, event: LedgerEvent, disk: SmallDisk) -> bool:
    if not local_stack.status(disk.folder)[2].running:
        return False  # nobody is there to answer; spare the waiting
    try:
        world.note(world.ledger.append(event), 10)
    except UnavailableError:
        return False
    return True
