"""Runs a peer's process as drain.py runs our worker, and checks what it left in the tables."""

import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import psycopg

from bench import measure
from bench.drain import DEADLINE_S, LOOK_S, StackCpu
from core_tables.cli.settings import Settings
from peers.expected import Expected, expected

START_S: Final = 120.0
ROOT: Final = Path(__file__).parents[1]

# By primary key, so that looking fifty times a second costs the peer nothing.
_LAST_ROWS: Final = """
    select count(*)
    from unnest(%s::text[], %s::bigint[], %s::text[]) as last (tenant_id, event_id, work_order_id)
    inner join os_core.work_order_ledger as event
        on event.tenant_id = last.tenant_id and event.work_order_event_id = last.event_id
    inner join os_core.work_orders_current as row
        on row.tenant_id = last.tenant_id and row.work_order_id = last.work_order_id
        and row.last_event_id = last.event_id
"""


class PeerRun(NamedTuple):
    """One run of a peer. Seconds are from its first assignment until all rows are committed; CPU is µs per event."""

    peer: str
    events: int
    seconds: float
    events_per_s: float
    worker_us: float
    postgres_us: float
    kafka_us: float
    peak_mb: float
    load: float
    lacks: str


class Program(NamedTuple):
    """How to start a peer, and the parts of lines of its log that say that it was assigned partitions, or has given up."""

    command: Sequence[str]
    environment: Mapping[str, str]
    assigned: bytes = b"assigned"
    failed: bytes = b"Traceback"


class WrongResultError(Exception):
    """A peer did not leave in the tables what the fold says."""


def measured(peer: tuple[str, str], settings: Settings, folder: Path, program: Program) -> PeerRun:
    """Run a peer, named by its NAME and LACKS, until all rows are there. Raises RuntimeError or WrongResultError."""
    want = expected(settings)
    events = want.records
    cpu = StackCpu(folder)
    process = subprocess.Popen(
        program.command, env=dict(program.environment), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        log = _Log(process.stderr, program)
        started = log.assigned_at()
        before = cpu.look([process.pid])
        ended = _all_written(settings, process, log, want)
        used = cpu.look([process.pid]).since(before)
        peak = measure.peak_memory_mb(process.pid)
    finally:
        _end(process)
    check(settings, want)
    seconds = ended - started
    worker, postgres, kafka = (1e6 * spent / events for spent in (used.worker, used.postgres, used.kafka))
    return PeerRun(peer[0], events, seconds, events / seconds, worker, postgres, kafka, peak, measure.load(), peer[1])


def check(settings: Settings, want: Expected) -> None:
    """Compare the tables with the fold: how many ledger rows, and each work order's status and last event."""
    with psycopg.connect(settings.admin(), autocommit=True) as connection:
        found = connection.execute("select count(*) from os_core.work_order_ledger").fetchone()
        rows = connection.execute(
            "select tenant_id, work_order_id, work_order_status, last_event_id from os_core.work_orders_current"
        ).fetchall()
    if found != (want.ledger_rows,):
        raise WrongResultError(f"{found} ledger rows instead of {want.ledger_rows}")
    current = {(row[0], row[1]): (row[2], row[3]) for row in rows}
    if current != want.current:
        wrong = [key for key, value in want.current.items() if current.get(key) != value]
        raise WrongResultError(
            f"{len(current)} current rows instead of {len(want.current)}; {len(wrong)} differ: {wrong[:3]}"
        )


def _all_written(settings: Settings, process: "subprocess.Popen[bytes]", log: "_Log", want: Expected) -> float:
    """Wait for the last event of each partition in both tables; when that was."""
    tenants, ids, orders = (list(column) for column in zip(*want.last.values(), strict=True))
    deadline = time.monotonic() + DEADLINE_S
    with psycopg.connect(settings.admin(), autocommit=True) as connection:
        connection.execute("set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off")
        while connection.execute(_LAST_ROWS, (tenants, ids, orders)).fetchone() != (len(ids),):
            if log.failed or process.poll() is not None:
                raise RuntimeError(f"the peer ended: {log.end()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"not everything was written within {DEADLINE_S:.0f} s: {log.end()}")
            time.sleep(LOOK_S)
        return time.monotonic()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """What it has not committed is of no use, so no long goodbye."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


class _Log:
    """Reads a peer's log: when it was assigned its partitions, and how it ended."""

    def __init__(self, lines: IO[bytes] | None, program: Program) -> None:
        self.failed = False
        self._lines: Any = lines
        self._program = program
        self._when: float | None = None
        self._seen = threading.Event()
        self._last: deque[bytes] = deque(maxlen=30)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def assigned_at(self) -> float:
        if not self._seen.wait(START_S) or self._when is None:
            raise RuntimeError(f"the peer was not assigned a partition: {self.end()}")
        return self._when

    def end(self) -> str:
        """The end of the log; all of it, if the peer has ended."""
        self._thread.join(1)
        return b"".join(self._last).decode("utf-8", "replace")

    def _read(self) -> None:
        for line in self._lines:
            if not self.failed:
                self._last.append(line)
            if self._when is None and self._program.assigned in line:
                self._when = time.monotonic()
                self._seen.set()
            if self._program.failed in line:
                self.failed = True
                self._seen.set()
        self._seen.set()
