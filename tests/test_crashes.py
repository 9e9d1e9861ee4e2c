"""End to end: workers that share lanes, and workers that are killed; then ledger = fold = tables = cache, audit one to one."""

import json
import random
import subprocess
import threading
from pathlib import Path

import pytest

from .builders import SEED, day
from .oracle import check_everything
from .world import World, wait_until

pytestmark = pytest.mark.stack


def test_two_workers_share_the_lanes(fresh: World) -> None:
    with fresh.working() as one, fresh.working() as two:
        wait_until(lambda: one.worker.lanes and two.worker.lanes, "both workers to own lanes")
        fresh.append(*day(3000))
        fresh.drain()
        assert one.worker.lanes.keys().isdisjoint(two.worker.lanes.keys())
        assert one.worker.folded_records
        assert two.worker.folded_records
    check_everything(fresh, 3000)


def test_workers_that_come_and_go_lose_and_double_nothing(fresh: World) -> None:
    events = day(6000)
    with fresh.working():
        for start in range(0, len(events), 1500):
            with fresh.working() as guest:
                fresh.append(*events[start : start + 1500])
                wait_until(lambda guest=guest: guest.worker.lanes, "the guest to own lanes")  # type: ignore[misc]
        fresh.drain()
    check_everything(fresh, 6000)


def test_two_workers_that_both_believe_they_own_every_lane_are_told_apart_by_the_guard(fresh: World) -> None:
    """Each in a group of its own: the group is a gauge, no promise rests on it."""
    other = fresh.settings.model_copy(update={"group_id": f"{fresh.name}-other"})
    mine = fresh.settings
    with fresh.working(batch_size=50) as one:
        fresh.settings = other
        with fresh.working(batch_size=70) as two:
            fresh.settings = mine
            wait_until(lambda: len(one.worker.lanes) == len(two.worker.lanes) == 12, "both to own every lane")
            fresh.append(*day(2000))
            fresh.drain(120)
    check_everything(fresh, 2000)


def test_kill_9_in_the_middle_of_50000_events(fresh: World, tmp_path: Path) -> None:
    count = 50_000
    appender = threading.Thread(target=lambda: fresh.append(*day(count)))
    chance = random.Random(SEED)
    kills = 0
    with (tmp_path / "worker.log").open("wb") as log:
        appender.start()
        process: subprocess.Popen[bytes] | None = None
        for share in (0.1, 0.35, 0.6, 0.85):
            process = fresh.worker_process("--batch", str(chance.choice([200, 500, 2000])), log=log)
            wanted = int(count * share)
            wait_until(lambda wanted=wanted: _folded(fresh) >= wanted, f"{wanted} records to be folded", 120)  # type: ignore[misc]
            process.kill()
            assert process.wait() == -9
            kills += 1
        appender.join()
        process = fresh.worker_process(log=log)
        fresh.drain(120)
        process.terminate()
        assert process.wait(30) == 0, "SIGTERM ends a worker in good order"
    assert kills == 4
    assert not [
        line for line in (tmp_path / "worker.log").read_text().splitlines() if json.loads(line)["level"] == "error"
    ]
    check_everything(fresh, count)


def _folded(world: World) -> int:
    return sum(applied for applied, _ in world.positions().values())
