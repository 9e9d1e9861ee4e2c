"""Growth: what ten thousand, a million and ten million existing ledger rows cost; and several workers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import psycopg

from bench import drain, events, latency, place, reads, running, stocked
from bench.latency import Latency
from bench.measure import Measured
from bench.reads import Read
from core_tables.settings.environment import Settings

RATE: Final = 1000
CLIENTS: Final = 16
WORKERS: Final = (1, 2, 4)


class Grown(NamedTuple):
    """One run in tables with this many ledger rows: a drain and pending lists, then latencies in a copy of the tables."""

    rows: int
    drain: Measured
    latency: Latency
    pending: Read

    def __str__(self) -> str:
        rate, p99 = self.drain.events_per_s, self.latency.spread.p99_ms
        return f"{self.rows:,} rows: {rate:,.0f} events/s, append p99 {p99:.1f} ms"


class Several(NamedTuple):
    """A drain by several workers."""

    workers: int
    drain: Measured

    def __str__(self) -> str:
        return f"{self.workers} workers: {self.drain.events_per_s:,.0f} events/s"


@contextmanager
def databases(settings: Settings, sizes: Sequence[int], say: Callable[[str], None]) -> Iterator[None]:
    """Databases with that many ledger rows, from which runs start as copies; dropped at the end."""
    try:
        for rows in sizes:
            say(f"inserting {rows:,} ledger rows into a database")
            stocked.template(settings, _name_of(rows), partial(stocked.history, ledger_rows=rows))
        yield
    finally:
        with psycopg.connect(settings.admin(), autocommit=True) as admin:
            for rows in sizes:
                admin.execute(f'drop database if exists "{_name_of(rows)}" with (force)'.encode())


def measure(settings: Settings, folder: Path, sizes: Sequence[int], seconds: float) -> Iterator[Grown]:
    """One round over the sizes. The ledger topic holds the load to drain; latencies are measured on another one."""
    for rows in sizes:
        with place.tables(settings, _name_of(rows)) as made:
            drained = drain.drain(made, folder)
            task = reads.Task(made, "pending, postgres", rows // stocked.LIFE, stocked.ONE_IN, seconds)
            pending = reads.read(task, CLIENTS, folder)
        yield Grown(rows, drained, _latency(settings, rows, seconds), pending)


def several(settings: Settings, folder: Path, counts: Sequence[int] = WORKERS) -> Iterator[Several]:
    """One round over the numbers of workers; the ledger topic holds the load."""
    for count in counts:
        with place.tables(settings) as made:
            drained = drain.drain(made, folder, workers=count)
        yield Several(count, drained)


def _latency(settings: Settings, rows: int, seconds: float) -> Latency:
    load = events.day(10_000_000)
    with place.tables(place.own_topic(settings), _name_of(rows)) as made, running.ledger(made) as ledger:
        latency.one_at_a_time(ledger, load, latency.WARM_UP)
        return latency.steady(ledger, load, RATE, seconds)


def _name_of(rows: int) -> str:
    return f"bench_rows_{rows}"
