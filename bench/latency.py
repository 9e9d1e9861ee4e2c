"""From append to outcome known: one at a time on an idle system, and at steady rates, compared with the bare loop."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from bench import bare, events, pacing, place, running
from bench.measure import load as load_average
from bench.pacing import Spread
from core_tables.kafka.clients import admin_client
from core_tables.kafka.topics import create_topics
from core_tables.producer import Ledger, Receipt
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.reasons import UnavailableError
from core_tables.settings.environment import Settings

LOOK_S: Final = 0.001
DEADLINE_S: Final = 60.0
ONE_BY_ONE: Final = 0  # as a rate: each append waits for the outcome of the one before
WARM_UP: Final = 20


class Latency(NamedTuple):
    """One run at a rate. `late_ms` is how far behind its schedule the appender was at most; latencies include that."""

    name: str
    rate: int
    spread: Spread
    late_ms: float
    load: float

    def __str__(self) -> str:
        what = f"at {self.rate:,}/s" if self.rate else "one at a time"
        return f"{self.name}, {what}: p50 {self.spread.p50_ms:.1f} ms, p99 {self.spread.p99_ms:.1f} ms"


def measure(settings: Settings, rates: Sequence[int], seconds: float, alone: int) -> Iterator[Latency]:
    """One round, on its own ledger topic: at each rate Core Tables and then the bare loop."""
    load, same = events.day(10_000_000), events.day(10_000_000)
    with place.tables(place.own_topic(settings)) as made:
        bare_topic = made.model_copy(update={"topic": f"{made.topic}.bare"})
        create_topics(
            admin_client(settings.kafka_settings()), [bare_topic.topic], settings.partitions, settings.replication
        )
        with running.ledger(made) as ledger, bare.appender(bare_topic) as appender:
            one_at_a_time(ledger, load, WARM_UP)
            yield one_at_a_time(ledger, load, alone)
            yield bare_one_at_a_time(appender, same, alone)
            for rate in rates:
                yield steady(ledger, load, rate, seconds)
                yield bare_steady(appender, same, rate, seconds)


def one_at_a_time(ledger: Ledger, load: Iterator[LedgerEvent], count: int) -> Latency:
    """Append an event, await its outcome, append the next."""
    took = []
    for _ in range(count):
        event, started = next(load), time.monotonic()
        if ledger.append(event).outcome(DEADLINE_S) is None:
            raise RuntimeError("an outcome did not come; does the worker run?")
        took.append(time.monotonic() - started)
    return Latency("core tables", ONE_BY_ONE, pacing.spread(took), 0.0, load_average())


def bare_one_at_a_time(appender: bare.Appender, load: Iterator[LedgerEvent], count: int) -> Latency:
    """The same with the bare loop."""
    appender.forget()
    for _ in range(count):
        appender.send(next(load), time.monotonic())
        appender.wait(DEADLINE_S)
    return Latency("bare loop", ONE_BY_ONE, pacing.spread([took for _, took in appender.took]), 0.0, load_average())


def steady(ledger: Ledger, load: Iterator[LedgerEvent], rate: int, seconds: float) -> Latency:
    """A steady rate of appends to the ledger: one thread appends on schedule, another awaits all outcomes."""
    waiting = Awaiting(ledger)
    late = pacing.pace(rate, seconds + pacing.WARM_S, lambda due: waiting.add(ledger.append(next(load)), due))
    took = waiting.finish()
    return Latency("core tables", rate, pacing.spread(_warm(took)), late, load_average())


def bare_steady(appender: bare.Appender, load: Iterator[LedgerEvent], rate: int, seconds: float) -> Latency:
    """The same with the bare loop."""
    appender.forget()
    late = pacing.pace(rate, seconds + pacing.WARM_S, lambda due: appender.send(next(load), due))
    appender.wait(DEADLINE_S)
    return Latency("bare loop", rate, pacing.spread(_warm(appender.took)), late, load_average())


def _warm(took: Sequence[tuple[float, float]]) -> list[float]:
    warm = min(due for due, _ in took) + pacing.WARM_S
    return [seconds for due, seconds in took if due >= warm]


class Awaiting:
    """Awaits the outcomes of many receipts: asks every millisecond for those that are delivered and not known yet.

    `outcomes` without time to wait queries only what the worker has announced as folded, so that asking often is cheap.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sent: deque[tuple[float, Receipt]] = deque()
        self._pending: list[tuple[float, Receipt]] = []
        self._took: list[tuple[float, float]] = []
        self.unknown: list[Receipt] = []  # those that were not acknowledged; in a run without faults there are none
        self._added = 0
        self._complete = threading.Event()
        self._failed: Exception | None = None
        self._patience = 0.0
        self._unanswered: UnavailableError | None = None  # what a question got; it is asked again
        for work in (self._look, self._serve):
            threading.Thread(target=work, daemon=True).start()

    def add(self, receipt: Receipt, due: float) -> None:
        """Await a receipt whose append was due at a time (monotonic seconds)."""
        self._added += 1
        self._sent.append((due, receipt))

    def finish(self) -> list[tuple[float, float]]:
        """For each receipt, when it was due and the seconds until its outcome was known. Raises RuntimeError."""
        deadline = time.monotonic() + DEADLINE_S
        while self._missing() and self._failed is None and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        self._complete.set()
        if self._missing():
            why = self._failed or self._unanswered
            raise RuntimeError(f"{self._missing()} outcomes did not come: {why!r}") from why
        return self._took

    def _missing(self) -> int:
        return self._added - len(self._took) - len(self.unknown)

    def _look(self) -> None:
        try:
            while not self._complete.is_set():
                for _ in range(len(self._sent)):
                    sent = self._sent.popleft()
                    if sent[1].failed:
                        self.unknown.append(sent[1])
                    else:
                        (self._pending if sent[1].delivered else self._sent).append(sent)
                if self._pending:
                    self._ask()
                time.sleep(LOOK_S)
        except Exception as error:
            self._failed = error

    def _ask(self) -> None:
        try:
            outcomes = self._ledger.outcomes([receipt for _, receipt in self._pending], self._patience)
        except UnavailableError as error:
            # Of a lane that the workers are silent about, Postgres is asked, which takes a moment.
            self._unanswered, self._patience = error, min(1.0, max(0.05, 2 * self._patience))
            return
        self._patience = 0.0
        now = time.monotonic()
        known = [outcome is not None for outcome in outcomes]
        self._took += [(due, now - due) for (due, _), is_known in zip(self._pending, known, strict=True) if is_known]
        self._pending = [sent for sent, is_known in zip(self._pending, known, strict=True) if not is_known]

    def _serve(self) -> None:
        """Serve delivery reports, which nothing else does between two appends."""
        while not self._complete.is_set():
            newest = self._sent[-1][1] if self._sent else None
            if newest is None or newest.delivered:
                time.sleep(LOOK_S)
            else:
                self._ledger.wait_delivered(newest, time.monotonic() + LOOK_S)
