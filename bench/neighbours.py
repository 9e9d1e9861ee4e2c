"""What ordinary work orders notice of a requester, a tenant or a work order that is a thousand times larger than usual."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Final, Literal, NamedTuple

import psycopg

from bench import drain, events, giants, pacing, place, running, stocked
from bench.giants import Size
from bench.latency import WARM_UP, Awaiting, one_at_a_time
from bench.measure import Measured
from bench.pacing import Spread
from core_tables.cli import wiring
from core_tables.producer import Ledger
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas.events import LedgerEvent
from core_tables.settings.environment import Settings

Large = Literal["nothing large", "as many requesters", "a requester", "a tenant", "a work order"]
CASES: Final[tuple[Large, ...]] = ("nothing large", "as many requesters", "a requester", "a tenant", "a work order")
RATE: Final = 600  # appends a second, of which one in ONE_IN is watched
ONE_IN: Final = 6
READ_EVERY_S: Final = 0.02
LATER: Final = events.START + 3_600_000_000_000
_SMALL, _LARGE = "bench_usual", "bench_giants"


class Neighbours(NamedTuple):
    """What ordinary work orders, and reads of them, were like next to something large that got most of the traffic.

    The drain is of a backlog of which half is ordinary.
    """

    large: Large
    drain: Measured
    outcome: Spread
    pending: Spread
    current: Spread
    history: Spread

    def __str__(self) -> str:
        cost = self.drain.worker_us + self.drain.postgres_us
        outcome = f"p50 {self.outcome.p50_ms:.1f} ms, p99 {self.outcome.p99_ms:.1f} ms"
        reads = ", ".join(f"{each.p50_ms:.2f}" for each in (self.pending, self.current, self.history))
        return f"next to {self.large}: outcome {outcome}, {cost:.1f} µs per event, reads {reads} ms"


@contextmanager
def databases(settings: Settings, size: Size, say: Callable[[str], None]) -> Iterator[None]:
    """A database with what is large, and one without, from which runs start as copies; dropped at the end."""
    try:
        say(f"inserting a requester with {size.open:,} open work orders, and a work order with {size.events:,} events")
        stocked.template(settings, _SMALL, lambda _: None)
        stocked.template(settings, _LARGE, partial(giants.insert, size=size))
        yield
    finally:
        with psycopg.connect(settings.admin(), autocommit=True) as admin:
            for name in (_SMALL, _LARGE):
                admin.execute(f'drop database if exists "{name}" with (force)'.encode())


def measure(settings: Settings, folder: Path, size: Size, backlog: int, seconds: float) -> Iterator[Neighbours]:
    """One round over the cases, each in tables and a topic of its own."""
    for case in CASES:
        template = _SMALL if case == "nothing large" else _LARGE
        with place.tables(place.own_topic(settings), template) as made:
            tenant = giants.neighbour() if case == "a tenant" else giants.TENANT
            ours, theirs = giants.ordinary("ours", tenant), _traffic(case, size)
            half = backlog // 2
            events.write(made, chain.from_iterable(islice(zip(ours, theirs, strict=False), half)))
            drained = drain.drain(made, folder)
            with running.ledger(made) as ledger:
                one_at_a_time(ledger, ours, WARM_UP)
                yield Neighbours(case, drained, *_steady(made, ledger, ours, theirs, seconds))


def _traffic(case: Large, size: Size) -> Iterator[LedgerEvent]:
    match case:
        case "nothing large":
            return giants.ordinary("theirs")
        case "as many requesters" | "a requester":
            return giants.of_orders(giants.Orders(size.open, shared=case == "a requester"))
        case "a tenant":
            return giants.ordinary("theirs", giants.TENANT)
        case "a work order":
            return giants.of_the_work_order(size.attempts)


def _steady(
    settings: Settings, ledger: Ledger, ours: Iterator[LedgerEvent], theirs: Iterator[LedgerEvent], seconds: float
) -> tuple[Spread, Spread, Spread, Spread]:
    """Appends at a steady rate; outcomes of the ordinary ones, and reads of the same work orders, from Postgres."""
    awaiting, number = Awaiting(ledger), 0
    with _Reader(settings) as reader:

        def send(due: float) -> None:
            nonlocal number
            number += 1
            if number % ONE_IN:
                ledger.append(next(theirs))
            else:
                event = next(ours)
                awaiting.add(ledger.append(event), due)
                reader.newest = event

        pacing.pace(RATE, seconds + pacing.WARM_S, send)
    took = awaiting.finish()
    warm = min(due for due, _ in took) + pacing.WARM_S
    outcome = pacing.spread([each for due, each in took if due >= warm])
    pending, current, history = map(pacing.spread, reader.took)
    return outcome, pending, current, history


class _Reader:
    """Reads the pending list, the record and the history of the newest ordinary work order, again and again, in a thread."""

    def __init__(self, settings: Settings) -> None:
        self._reads = wiring.reads_of_tables(settings)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.newest: LedgerEvent | None = None
        self.took: tuple[list[float], list[float], list[float]] = ([], [], [])

    def __enter__(self) -> "_Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with closing(self._reads) as reads:
            while not self._ended.wait(READ_EVERY_S):
                if (event := self.newest) is not None:
                    for took, read in zip(self.took, (_pending, _current, _history), strict=True):
                        started = time.monotonic()
                        read(reads, event)
                        took.append(time.monotonic() - started)


def _pending(reads: Reads, event: LedgerEvent) -> None:
    reads.pending(PendingQuery(event.tenant_id, "requester-17", LATER))


def _current(reads: Reads, event: LedgerEvent) -> None:
    reads.current(event.tenant_id, event.work_order_id)


def _history(reads: Reads, event: LedgerEvent) -> None:
    reads.ledger(event.tenant_id, event.work_order_id)
