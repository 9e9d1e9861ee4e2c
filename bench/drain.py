"""Drain rate: how fast a worker folds a backlog, with everything it does: tables, cache, audit."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import orjson
import psycopg
from psycopg.rows import TupleRow

from bench import measure, place, running
from bench.measure import Measured
from core_tables.settings.environment import Settings

DEADLINE_S: Final = 900.0
_Databases = Sequence[psycopg.Connection[TupleRow]]


def drain(
    settings: Settings, folder: Path, *, arguments: Sequence[str] = (), workers: int = 1, pure: bool = False
) -> Measured:
    """Let workers fold everything in the topic, into tables that nothing was folded into yet.

    The time runs from the first assignment until everything is in the tables and in the audit topic. Raises RuntimeError
    if that does not happen within DEADLINE_S.
    """
    cpu = measure.StackCpu(folder)
    total = place.ends(settings, settings.topic)
    with ExitStack() as processes:
        connections = [
            processes.enter_context(psycopg.connect(database.admin(), autocommit=True))
            for database in settings.databases()
        ]
        done = sum(applied for _, applied in _lanes(connections, "applied"))
        started = [
            processes.enter_context(running.ended(place.worker(settings, *arguments, pure=pure)))
            for _ in range(workers)
        ]
        pids = [process.pid for process in started]
        logs = [running.Log(process.stderr, _says_assigned) for process in started]
        begun = min(log.ready_at(running.READY_S) for log in logs)
        before = cpu.read(pids)
        applied = running.until(lambda: _reached(connections, "applied", total), DEADLINE_S, "everything is folded")
        audited = _last_audit(settings, connections, total)
        used = cpu.read(pids).since(before)
        peak = max(measure.peak_memory_mb(pid) for pid in pids)
    seconds = max(applied, audited) - begun
    return Measured.of(sum(total.values()) - done, seconds, used, peak_mb=peak, applied_s=applied - begun)


def _says_assigned(line: bytes) -> bool:
    return b'"assigned"' in line and bool(orjson.loads(line)["partitions"])


def _lanes(connections: _Databases, column: str) -> list[TupleRow]:
    statement = f"select lane, {column} from os_core.lanes".encode()
    return [row for connection in connections for row in connection.execute(statement).fetchall()]


def _reached(connections: _Databases, column: str, total: dict[int, int]) -> bool:
    return all(total[lane] <= offset for lane, offset in _lanes(connections, column))


def _last_audit(settings: Settings, connections: _Databases, total: dict[int, int]) -> float:
    """When the audit topic last grew. The watermark says that this was all of it, but only once a second."""
    with place.ends_of(settings, settings.audit_topic) as read_ends:
        ends, grew = read_ends(), time.monotonic()

        def complete() -> bool:
            nonlocal ends, grew
            now = read_ends()
            if now != ends:
                ends, grew = now, time.monotonic()
            return _reached(connections, "audited", total)

        running.until(complete, DEADLINE_S, "everything is audited")
    return grew
