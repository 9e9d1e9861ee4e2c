"""Appends: one at a time until durable, many at once, and many at once with all their outcomes."""

import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from bench import events, latency, place, running
from bench.measure import load as load_average
from core_tables.producer import Ledger
from core_tables.schemas.events import LedgerEvent
from core_tables.settings.environment import Settings

DEADLINE_S: Final = 300.0


class Appends(NamedTuple):
    """One run; `what` says what was waited for."""

    what: str
    events: int
    events_per_s: float
    load: float

    def __str__(self) -> str:
        return f"{self.what}: {self.events_per_s:,.0f}/s"


def measure(settings: Settings, alone: int, many: int) -> Iterator[Appends]:
    """One round, on its own ledger topic, while a worker folds."""
    load = events.day(10_000_000)
    with place.tables(place.own_topic(settings)) as made, running.ledger(made) as ledger:
        _one_by_one(ledger, load, latency.WARM_UP)
        yield _timed("one at a time, durable", alone, lambda: _one_by_one(ledger, load, alone))
        yield _timed("many at once, with outcomes", many, lambda: _with_outcomes(ledger, load, many))
        yield _timed("many at once, durable", many, lambda: _pipelined(ledger, load, many))


def _timed(what: str, count: int, work: Callable[[], None]) -> Appends:
    started = time.monotonic()
    work()
    return Appends(what, count, count / (time.monotonic() - started), load_average())


def _one_by_one(ledger: Ledger, load: Iterator[LedgerEvent], count: int) -> None:
    for _ in range(count):
        ledger.append(next(load)).event_id()


def _pipelined(ledger: Ledger, load: Iterator[LedgerEvent], count: int) -> None:
    for _ in range(count):
        ledger.append(next(load))
    if ledger.flush():
        raise RuntimeError("the broker did not acknowledge every append; check that it is running")


def _with_outcomes(ledger: Ledger, load: Iterator[LedgerEvent], count: int) -> None:
    receipts = [ledger.append(next(load)) for _ in range(count)]
    if None in ledger.outcomes(receipts, DEADLINE_S):
        raise RuntimeError("outcomes did not come; is the worker running?")
