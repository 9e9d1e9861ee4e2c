"""Pending lists by the number of open work orders that their requester has, and what the index of them costs the drain."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import psycopg

from bench import drain, events, giants, pacing, place
from bench.measure import Measured
from bench.measure import load as load_average
from bench.pacing import Spread
from core_tables.cli import wiring
from core_tables.projection.fold.pending import PendingQuery
from core_tables.settings.environment import Settings

LATER: Final = events.START + 1_000_000_000
TOP: Final = 10
# The index that pending lists had before they were read in their order.
_WITHOUT: Final = (
    "drop index os_core.pending_work_orders",
    "create index open_work_orders_of_a_requester on os_core.work_orders_current (tenant_id, requester_user_id) "
    "where closed_at is null",
)


class Listed(NamedTuple):
    """Reads of the first ten of a requester's list, from Postgres."""

    open_orders: int
    spread: Spread
    load: float

    def __str__(self) -> str:
        return f"{self.open_orders:,} open: first ten p50 {self.spread.p50_ms:.3f} ms, p99 {self.spread.p99_ms:.2f} ms"


class Indexed(NamedTuple):
    """A drain of a load in which work orders stay pending for some of their events."""

    pending_events: str
    indexed: str
    drain: Measured

    def __str__(self) -> str:
        return f"{self.pending_events} events pending, {self.indexed}: {self.drain.events_per_s:,.0f} events/s"


def measure(settings: Settings, sizes: Sequence[int], reads: int) -> Iterator[Listed]:
    """One round: one client reads the lists of all requesters in turn, from one table."""
    with place.tables(settings) as made:
        giants.requesters(made, tuple(sizes))
        took: dict[int, list[float]] = {size: [] for size in sizes}
        with closing(wiring.reads_of_tables(made)) as tables:
            for number in range(reads):
                for size in sizes:
                    query = PendingQuery(giants.TENANT, giants.REQUESTER.format(size), LATER, top_n=TOP)
                    started = time.monotonic()
                    found = len(tables.pending(query).offers)
                    if number >= reads // 10:  # plans and pages are warm
                        took[size].append(time.monotonic() - started)
                    if found != TOP:
                        raise RuntimeError(f"{found} of the first ten of {size} were found")
        for size in sizes:
            yield Listed(size, pacing.spread(took[size]), load_average())


def drains(loads: Sequence[tuple[str, Settings]], folder: Path) -> Iterator[Indexed]:
    """One round over the loads, which their topics hold: with the index as it is, and with the former one in its place."""
    for pending, settings in loads:
        for index in ("in the order of lists", "former"):
            with place.tables(settings) as made:
                if index == "former":
                    with psycopg.connect(made.admin(), autocommit=True) as admin:
                        for statement in _WITHOUT:
                            admin.execute(statement.encode())
                yield Indexed(pending, index, drain.drain(made, folder))
