"""Drain rate: how fast a worker folds what waits in the topic, with everything: tables, cache, audit."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson
import psycopg

from bench import measure, place
from core_tables.cli.settings import Settings
from core_tables.deploy import stack as local_stack

DEADLINE_S = 900.0
LOOK_S = 0.05


class Drain(NamedTuple):
    """One run. Seconds are from the worker's first assignment; CPU is microseconds per event."""

    events: int
    workers: int
    applied_s: float
    audited_s: float
    events_per_s: float  # until the last of both
    worker_us: float
    postgres_us: float
    kafka_us: float
    redis_us: float
    peak_mb: float
    load: float


class StackCpu:
    """Looks at the CPU time of the stack's parts."""

    def __init__(self, folder: Path) -> None:
        self._pids = {part.name: part.pid for part in local_stack.status(folder)}

    def look(self, workers: list[int]) -> measure.Cpu:
        """What workers and parts have used so far."""
        parts = (measure.cpu_of(self._pids[name] or 0, children=True) for name in ("postgres", "kafka", "redis"))
        return measure.Cpu(sum(measure.cpu_of(pid, children=True) for pid in workers), *parts)


def drain(
    settings: Settings, folder: Path, *, arguments: Sequence[str] = (), workers: int = 1, compiled: bool = False
) -> Drain:
    """Let workers fold all that waits in the topic, in tables that nothing was folded into yet.

    Raises RuntimeError when it does not end.
    """
    cpu = StackCpu(folder)
    total = place.ends(settings, settings.topic)
    with psycopg.connect(settings.admin(), autocommit=True) as connection:
        done = sum(row[0] for row in connection.execute("select applied from os_core.lanes").fetchall())
        processes = [place.worker(settings, *arguments, compiled=compiled) for _ in range(workers)]
        pids = [process.pid for process in processes]
        try:
            started = min(waiting.at() for waiting in [_Assigned(process.stderr) for process in processes])
            before = cpu.look(pids)
            applied_at = _until(lambda: _reached(connection, "applied", total))
            audited_at = _last_audit(settings, connection, total)
            used = cpu.look(pids).since(before)
            peak = max(measure.peak_memory_mb(pid) for pid in pids)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(30)
    events = sum(total.values()) - done
    ended = max(applied_at, audited_at)
    return Drain(
        events,
        workers,
        applied_at - started,
        audited_at - started,
        events / (ended - started),
        *measure.Cpu(*(1e6 * seconds / events for seconds in used)),
        peak_mb=peak,
        load=measure.load(),
    )


class _Assigned:
    """Reads a worker's log, and notes when it was assigned its first lane."""

    def __init__(self, lines: object) -> None:
        self._lines = lines
        self._when: float | None = None
        self._seen = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def at(self) -> float:
        if not self._seen.wait(60) or self._when is None:
            raise RuntimeError("the worker was not assigned a lane; start it by hand to see why")
        return self._when

    def _read(self) -> None:
        for line in self._lines:  # type: ignore[attr-defined]
            if self._when is None and b'"assigned"' in line and orjson.loads(line)["partitions"]:
                self._when = time.monotonic()
                self._seen.set()
        self._seen.set()


def _reached(connection: "psycopg.Connection[tuple[object, ...]]", column: str, total: dict[int, int]) -> bool:
    rows = connection.execute(f"select lane, {column} from os_core.lanes".encode()).fetchall()
    return all(total[int(str(lane))] <= int(str(position)) for lane, position in rows)


def _last_audit(
    settings: Settings, connection: "psycopg.Connection[tuple[object, ...]]", total: dict[int, int]
) -> float:
    """When the audit topic last grew. The audited watermark, written once a second, tell when that was all."""
    with place.ends_of(settings, settings.audit_topic) as ends:
        held, at = ends(), time.monotonic()

        def complete() -> bool:
            nonlocal held, at
            now = ends()
            if now != held:
                held, at = now, time.monotonic()
            return _reached(connection, "audited", total)

        _until(complete)
    return at


def _until(holds: Callable[[], bool]) -> float:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not everything was folded and audited within {DEADLINE_S:.0f} s")
        time.sleep(LOOK_S)
    return time.monotonic()
