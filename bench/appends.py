"""Appends: one at a time until durable, many at once, and many at once with all their outcomes."""

import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from bench import events, place, running
from bench.measure import load as load_average
from core_tables.cli import wiring
from core_tables.cli.settings import Settings
from core_tables.producer import Ledger
from core_tables.schemas.events import LedgerEvent

DEADLINE_S: Final = 300.0


class Appends(NamedTuple):
    """One run; `what` is what was waited for."""

    what: str
    events: int
    events_per_s: float
    load: float


def measure(settings: Settings, alone: int, many: int) -> Iterator[Appends]:
    """One round, on a ledger topic of its own; a worker folds beside it."""
    made = place.fresh(settings.model_copy(update={"topic": place.another_topic(settings)}))
    load = events.day(10_000_000)
    with running.worker(made):
        ledger = wiring.ledger(made)
        _one_by_one(ledger, load, 20)
        yield _timed("one at a time, durable", alone, lambda: _one_by_one(ledger, load, alone))
        yield _timed("many at once, with outcomes", many, lambda: _with_outcomes(ledger, load, many))
        yield _timed("many at once, durable", many, lambda: _pipelined(ledger, load, many))
        ledger.close()
    place.drop(made)


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
        raise RuntimeError("the broker did not acknowledge every append; see that it runs")


def _with_outcomes(ledger: Ledger, load: Iterator[LedgerEvent], count: int) -> None:
    receipts = [ledger.append(next(load)) for _ in range(count)]
    if None in ledger.outcomes(receipts, DEADLINE_S):
        raise RuntimeError("outcomes did not come; does the worker run?")
