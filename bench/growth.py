"""Growth: what ten thousand, a million and ten million ledger rows that are there already cost; and several workers."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import psycopg

from bench import drain, events, latency, place, reads, running, stocked
from bench.drain import Drain
from bench.latency import Latency
from bench.reads import Read
from core_tables.cli import wiring
from core_tables.cli.settings import Settings

RATE: Final = 1000
CLIENTS: Final = 16
WORKERS: Final = (1, 2, 4)


class Grown(NamedTuple):
    """One run in tables with so many ledger rows: the drain, then latencies and pending lists in the same tables."""

    rows: int
    drain: Drain
    latency: Latency
    pending: Read


class Several(NamedTuple):
    """A drain by several workers."""

    workers: int
    drain: Drain


def name_of(rows: int) -> str:
    """The database that runs with so many rows begin as copies of."""
    return f"bench_rows_{rows}"


def prepare(settings: Settings, sizes: Sequence[int], say: Callable[[str], None]) -> None:
    """Make the databases to start from."""
    for rows in sizes:
        say(f"putting {rows} ledger rows into a database")
        stocked.template(settings, name_of(rows), rows)


def forget(settings: Settings, sizes: Sequence[int]) -> None:
    """Remove them."""
    with psycopg.connect(settings.admin(), autocommit=True) as admin:
        for rows in sizes:
            admin.execute(f'drop database if exists "{name_of(rows)}" with (force)'.encode())


def measure(settings: Settings, folder: Path, sizes: Sequence[int], seconds: float) -> Iterator[Grown]:
    """One round over the sizes; the ledger topic holds the load to drain, the latencies have a topic of their own."""
    for rows in sizes:
        made = place.fresh(settings, name_of(rows))
        drained = drain.drain(made, folder)
        task = reads.Task(made, "pending, postgres", rows // stocked.LIFE, stocked.ONE_IN, seconds)
        pending = reads.read(task, CLIENTS)
        place.drop(made)
        yield Grown(rows, drained, _latency(settings, rows, seconds), pending)


def _latency(settings: Settings, rows: int, seconds: float) -> Latency:
    made = place.fresh(settings.model_copy(update={"topic": place.another_topic(settings)}), name_of(rows))
    load = events.day(10_000_000)
    with running.worker(made):
        ledger = wiring.ledger(made)
        latency.one_at_a_time(ledger, load, 20)
        took = latency.steady(ledger, load, RATE, seconds)
        ledger.close()
    place.drop(made)
    return took


def several(settings: Settings, folder: Path, counts: Sequence[int] = WORKERS) -> Iterator[Several]:
    """One round over the numbers of workers; the ledger topic holds the load."""
    for count in counts:
        made = place.fresh(settings)
        yield Several(count, drain.drain(made, folder, workers=count))
        place.drop(made)
