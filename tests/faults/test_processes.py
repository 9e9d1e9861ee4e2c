"""Processes that die, sleep, and lose answers."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from functools import partial
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from core_tables.cli import wiring
from tests.test_crashes import check_everything, day
from tests.world import World, new_world, wait_until

from .conftest import Recovery
from .dying_worker import POINTS
from .proxy import CommitCutter

pytestmark = pytest.mark.stack


@pytest.fixture
def fresh(world: World) -> World:
    """A world of one test's own."""
    return new_world(world.stack)


def _dead_or_done(process: "subprocess.Popen[bytes]", world: World) -> bool:
    return process.poll() is not None or world.drained()


def _cuts_reached(cutter: CommitCutter, count: int) -> bool:
    return cutter.cuts >= count


@pytest.mark.parametrize("point", POINTS)
def test_a_death_at_any_point_of_the_order_of_effects_costs_nothing(
    fresh: World, point: str, recovery: Recovery
) -> None:
    fresh.append(*day(900))
    for survive in (0, 2):
        # A group of its own spares waiting for the session of the one that died; no promise rests on the group.
        fresh.settings = fresh.settings.model_copy(update={"group_id": f"{fresh.name}-{survive}"})
        command = [sys.executable, "-m", "tests.faults.dying_worker", point, str(survive)]
        root = Path(__file__).parent.parent.parent
        process = subprocess.Popen(command, env=fresh.environment(), cwd=root, stderr=subprocess.DEVNULL)
        try:
            # Some points are not reached when nothing is left to recall: then the worker just goes on.
            wait_until(partial(_dead_or_done, process, fresh), f"the worker to die {point}")
        finally:
            process.kill()
            process.wait()
    fresh.settings = fresh.settings.model_copy(update={"group_id": f"{fresh.name}-successor"})
    with recovery("kill -9 of a worker, a successor in another group"), fresh.working():
        fresh.drain()
    check_everything(fresh, 900)


def test_a_commit_whose_answer_is_lost_is_not_repeated(fresh: World, recovery: Recovery) -> None:
    told = conninfo_to_dict(fresh.settings.admin())
    cutter = CommitCutter(str(told["host"]), int(told["port"] or 0))
    direct = fresh.settings.worker()
    through = direct.replace(f"port={told['port']}", f"port={cutter.port}")
    assert through != direct
    fresh.settings = fresh.settings.model_copy(update={"worker_dsn": through})
    with fresh.working(batch_size=100):
        for part in range(4):
            cutter.armed = True
            fresh.append(*day(300, seed=part))
            wait_until(partial(_cuts_reached, cutter, part + 1), f"answer {part + 1} to be cut")
            with recovery("the answer to COMMIT cut"):
                fresh.drain(120)
    cutter.close()
    check_everything(fresh, 1200)


def test_a_worker_that_slept_past_its_session_changes_nothing_when_it_wakes(
    fresh: World, tmp_path: Path, recovery: Recovery
) -> None:
    fresh.append(*day(4000))
    processes = []
    with (tmp_path / "log").open("wb") as log:
        try:
            processes.append(fresh.worker_process("--batch", "200", log=log))
            wait_until(lambda: any(applied for applied, _ in fresh.positions().values()), "the first batch")
            processes[0].send_signal(signal.SIGSTOP)
            processes.append(fresh.worker_process(log=log))
            with recovery("SIGSTOP of a worker, take-over by the group"):
                fresh.drain(120)
            processes[0].send_signal(signal.SIGCONT)
            fresh.append(*day(500, seed=3))
            fresh.drain(120)
            for process in processes:
                process.terminate()
                assert process.wait(60) == 0
        finally:
            for process in processes:
                process.kill()
    check_everything(fresh, 4500)


def test_group_offsets_that_are_deleted_are_not_missed(fresh: World) -> None:
    fresh.append(*day(800))
    with fresh.working():
        fresh.drain()
    admin = wiring.admin_client(fresh.settings)
    for future in admin.delete_consumer_groups([fresh.settings.group_id]).values():
        future.result()
    fresh.append(*day(400, seed=9))
    with fresh.working():
        fresh.drain()
    check_everything(fresh, 1200)


def test_an_older_backup_of_postgres_is_folded_forward_and_audited_once(fresh: World) -> None:
    """The restored database is behind the audit topic: outcomes are folded again, and what was audited is not repeated."""
    fresh.append(*day(900))
    with fresh.working():
        fresh.drain()
    backup = f"{fresh.name}_backup"
    fresh.close()
    with new_world(fresh.stack).admin as elsewhere:
        elsewhere.execute(f"create database {backup} template {fresh.name}".encode())
    fresh.reconnect()
    fresh.append(*day(700, seed=5))
    with fresh.working():
        fresh.drain()
    fresh.close()
    dsn = fresh.settings.admin().replace(f"dbname={fresh.name}", f"dbname={backup}")
    fresh.settings = fresh.settings.model_copy(update={"postgres_dsn": dsn})
    fresh.reconnect()
    fresh.append(*day(100, seed=6))
    with fresh.working():
        fresh.drain()
    check_everything(fresh, 1700)


def test_workers_that_join_and_leave_every_two_seconds_do_not_stop_the_work(
    fresh: World, tmp_path: Path, recovery: Recovery
) -> None:
    """STORM_S says for how long; every second one that leaves is killed."""
    pace, ended = threading.Event(), threading.Event()
    appended: list[int] = []

    def load() -> None:
        while not ended.is_set():
            fresh.append(*day(50, seed=len(appended)))
            appended.append(50)

    loading = threading.Thread(target=load)
    processes: deque[subprocess.Popen[bytes]] = deque()
    with (tmp_path / "log").open("wb") as log:
        try:
            processes.append(fresh.worker_process("--batch", "200", log=log))
            loading.start()
            for change in range(int(os.environ.get("STORM_S", "12")) // 2):
                processes.append(fresh.worker_process("--batch", "200", log=log))
                pace.wait(2)  # the pace of the storm, not a wait for something
                if len(processes) > 2:
                    leaving = processes.popleft()
                    leaving.send_signal(signal.SIGKILL if change % 2 else signal.SIGTERM)
            ended.set()
            loading.join()
            with recovery("workers that join and leave every 2 s"):
                fresh.drain(180)
        finally:
            ended.set()
            loading.join()
            for process in processes:
                process.kill()
                process.wait()
    check_everything(fresh, sum(appended))


def test_a_clock_that_jumps_by_an_hour_changes_nothing(fresh: World) -> None:
    """Windows and expiries are judged by created_at, waits by a clock that does not jump."""
    hour_ms = 3_600_000
    for number, event in enumerate(day(600)):
        jump = (hour_ms, 0, -hour_ms)[number % 3]
        skewed = event._replace(created_at=event.created_at + jump * 1_000_000)
        fresh.ledger.append(skewed)
    fresh.ledger.flush()
    command = [sys.executable, "-m", "tests.faults.skewed_worker"]
    root = Path(__file__).parent.parent.parent
    process = subprocess.Popen(command, env=fresh.environment(), cwd=root, stderr=subprocess.DEVNULL)
    try:
        fresh.drain(120)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    check_everything(fresh, 600)
    assert wiring.verify_topic(fresh.settings, wiring.operator(fresh.settings), lambda _: None).differences == []
