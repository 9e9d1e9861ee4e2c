"""Processes that die, sleep, and lose answers."""

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from psycopg.conninfo import conninfo_to_dict

from core_tables.projection.fold.values import Changed, Decided
from core_tables.projection.postgres.store import Store
from tests.builders import HOUR, day
from tests.oracle import check_everything
from tests.world import World, new_world, wait_until

from .conftest import Recovery
from .dying_worker import DIED, POINTS
from .proxy import CommitCutter

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parent.parent.parent


def _cuts_reached(cutter: CommitCutter, count: int) -> bool:
    return cutter.cuts >= count


@pytest.mark.parametrize("point", POINTS)
def test_a_death_at_any_point_of_the_order_of_effects_costs_nothing(
    fresh: World, point: str, recovery: Recovery
) -> None:
    fresh.append(*day(900))
    deaths = [(point, 0), (point, 2)]
    if point == "after_recall":  # there is something to recall only after a commit whose outcomes were not audited
        deaths = [("after_commit_and_notify", 0), (point, 0), (point, 0)]
    for number, (at, survive) in enumerate(deaths):
        # A group of its own spares waiting for the session of the one that died; no promise rests on the group.
        fresh.settings = fresh.settings.model_copy(update={"group_id": f"{fresh.name}-{number}"})
        command = [sys.executable, "-m", "tests.faults.dying_worker", at, str(survive)]
        process = subprocess.Popen(command, env=fresh.environment(), cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            wait_until(partial(_died_under_load, process, fresh), f"the worker to die {at}")
        finally:
            process.kill()
            process.wait()
        assert process.returncode == DIED, f"the worker ended with {process.returncode} instead of dying {at}"
    fresh.settings = fresh.settings.model_copy(update={"group_id": f"{fresh.name}-successor"})
    with recovery("kill -9 of a worker, a successor in another group"), fresh.working():
        fresh.drain()
    check_everything(fresh, len(fresh.acknowledged))


def _died_under_load(process: "subprocess.Popen[bytes]", world: World) -> bool:
    """Whether it has ended; if not, there is something more for it to do, so that it comes to its point."""
    if process.poll() is None:
        world.append(*day(12, seed=len(world.acknowledged)))
    return process.poll() is not None


def test_a_commit_whose_answer_is_lost_is_recalled_not_decided_again(
    fresh: World, recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = conninfo_to_dict(fresh.settings.admin())
    cutter = CommitCutter(str(parameters["host"]), int(parameters["port"] or 0))
    usual, direct = fresh.settings, fresh.settings.worker()
    through = direct.replace(f"port={parameters['port']}", f"port={cutter.port}")
    assert through != direct
    fresh.settings = usual.model_copy(update={"worker_dsn": through})
    wanted = threading.Event()
    written, lost = [0], []
    real_write, real_commit = Store.write, Store.commit

    def write(store: Store, parts: Iterable[Sequence[Decided]], changed: Changed, *meanwhile: Any) -> None:
        taken = list(parts)
        written[0] = sum(map(len, taken))
        real_write(store, taken, changed, *meanwhile)

    def commit(store: Store, applied: dict[int, int]) -> bool:
        """Cut only the COMMIT of a batch that decided something: no other transaction is open on the connection."""
        decided, written[0] = written[0], 0
        if decided and wanted.is_set():
            wanted.clear()
            cutter.armed = True
            lost.append(decided)
        return real_commit(store, applied)

    monkeypatch.setattr(Store, "write", write)
    monkeypatch.setattr(Store, "commit", commit)
    with fresh.working(batch_size=100) as running:
        for part in range(4):
            wanted.set()
            fresh.append(*day(300, seed=part))
            wait_until(partial(_cuts_reached, cutter, part + 1), f"answer {part + 1} to be cut")
            with recovery("the answer to COMMIT cut"):
                fresh.drain(120)
    cutter.close()
    fresh.settings = usual
    batches = running.log_lines("batch_committed")
    assert len(lost) == cutter.cuts == 4
    assert sum(batch["records"] for batch in batches) == 1200 - sum(lost), (
        "what a lost answer committed is decided once"
    )
    assert sum(batch["recalled"] for batch in batches) >= sum(lost), "its outcomes were recalled for the audit"
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
    admin = fresh.kafka_admin()
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
    jumps = itertools.cycle((HOUR, 0, -HOUR))
    fresh.append(*(replace(event, created_at=event.created_at + next(jumps)) for event in day(600)))
    command = [sys.executable, "-m", "tests.faults.skewed_worker"]
    process = subprocess.Popen(command, env=fresh.environment(), cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        fresh.drain(120)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    check_everything(fresh, 600)
