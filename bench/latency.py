"""From append to outcome known: one at a time on an idle system, and at steady rates, beside the bare loop."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from bench import bare, events, pacing, place, running
from bench.measure import load as load_average
from bench.pacing import Spread
from core_tables.cli import wiring
from core_tables.cli.settings import Settings
from core_tables.kafka.topics import create_topics
from core_tables.producer import Ledger, Receipt
from core_tables.schemas.events import LedgerEvent

LOOK_S: Final = 0.001
DEADLINE_S: Final = 60.0
ONE_BY_ONE: Final = 0  # the rate of what waits for each outcome before the next append


class Latency(NamedTuple):
    """One run at a rate. `late_ms` is the most the appender was behind its schedule, and is part of the latencies."""

    name: str
    rate: int
    spread: Spread
    late_ms: float
    load: float


def measure(settings: Settings, rates: Sequence[int], seconds: float, alone: int) -> Iterator[Latency]:
    """One round, on a ledger topic of its own: at each rate ours and then the bare loop."""
    made = place.fresh(settings.model_copy(update={"topic": place.another_topic(settings)}))
    beside = made.model_copy(update={"topic": f"{made.topic}.bare"})
    create_topics(wiring.admin_client(settings), [beside.topic], settings.partitions, settings.replication)
    load, same = events.day(10_000_000), events.day(10_000_000)
    ours = running.worker(made)
    with ours, bare.appender(beside) as appender:
        ledger = wiring.ledger(made)
        one_at_a_time(ledger, load, 20)
        yield one_at_a_time(ledger, load, alone)
        yield bare_one_at_a_time(appender, same, alone)
        for rate in rates:
            yield steady(ledger, load, rate, seconds)
            yield bare_steady(appender, same, rate, seconds)
        ledger.close()
    place.drop(made)


def one_at_a_time(ledger: Ledger, load: Iterator[LedgerEvent], count: int) -> Latency:
    """Append, await the outcome, append the next."""
    took = []
    for _ in range(count):
        event, started = next(load), time.monotonic()
        if ledger.append(event).outcome(DEADLINE_S) is None:
            raise RuntimeError("an outcome did not come; does the worker run?")
        took.append(time.monotonic() - started)
    return Latency("core tables", ONE_BY_ONE, pacing.spread(took), 0.0, load_average())


def bare_one_at_a_time(appender: bare.Appender, load: Iterator[LedgerEvent], count: int) -> Latency:
    """The same against the bare loop."""
    appender.took.clear()
    appender.sent = 0
    for _ in range(count):
        appender.send(next(load), time.monotonic())
        appender.wait(DEADLINE_S)
    return Latency("bare loop", ONE_BY_ONE, pacing.spread([took for _, took in appender.took]), 0.0, load_average())


def bare_steady(appender: bare.Appender, load: Iterator[LedgerEvent], rate: int, seconds: float) -> Latency:
    """A steady rate against the bare loop."""
    appender.took.clear()
    appender.sent = 0
    late = pacing.pace(rate, seconds + pacing.WARM_S, lambda due: appender.send(next(load), due))
    appender.wait(DEADLINE_S)
    return Latency("bare loop", rate, pacing.spread(_warm(appender.took)), late, load_average())


def steady(ledger: Ledger, load: Iterator[LedgerEvent], rate: int, seconds: float) -> Latency:
    """A steady rate against ours: one thread appends on schedule, another awaits all outcomes."""
    waiting = Awaiting(ledger)
    late = pacing.pace(rate, seconds + pacing.WARM_S, lambda due: waiting.add(ledger.append(next(load)), due))
    took = waiting.finish()
    return Latency("core tables", rate, pacing.spread(_warm(took)), late, load_average())


def _warm(took: Sequence[tuple[float, float]]) -> list[float]:
    warm = min(due for due, _ in took) + pacing.WARM_S
    return [seconds for due, seconds in took if due >= warm]


class Awaiting:
    """Awaits the outcomes of many receipts: looks every millisecond at what is delivered and not known yet.

    `outcomes` with no time to wait reads only what was heard to be folded, so that a look at what is pending costs no query.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sent: deque[tuple[float, Receipt]] = deque()
        self._pending: list[tuple[float, Receipt]] = []
        self._took: list[tuple[float, float]] = []
        self._added = 0
        self._complete = threading.Event()
        self._failed: Exception | None = None
        for work in (self._look, self._serve):
            threading.Thread(target=work, daemon=True).start()

    def add(self, receipt: Receipt, due: float) -> None:
        """Await a receipt that was due at a time (monotonic seconds)."""
        self._added += 1
        self._sent.append((due, receipt))

    def finish(self) -> list[tuple[float, float]]:
        """For each receipt when it was due, and the seconds until its outcome was known. Raises RuntimeError."""
        deadline = time.monotonic() + DEADLINE_S
        while len(self._took) < self._added and self._failed is None and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        self._complete.set()
        if len(self._took) < self._added:
            raise RuntimeError(f"{self._added - len(self._took)} outcomes did not come") from self._failed
        return self._took

    def _look(self) -> None:
        try:
            while not self._complete.is_set():
                for _ in range(len(self._sent)):
                    sent = self._sent.popleft()
                    (self._pending if sent[1].delivered else self._sent).append(sent)
                if self._pending:
                    self._ask()
                time.sleep(LOOK_S)
        except Exception as error:
            self._failed = error

    def _ask(self) -> None:
        outcomes = self._ledger.outcomes([receipt for _, receipt in self._pending], 0.0)
        now = time.monotonic()
        known = [outcome is not None for outcome in outcomes]
        self._took += [(due, now - due) for (due, _), is_known in zip(self._pending, known, strict=True) if is_known]
        self._pending = [sent for sent, is_known in zip(self._pending, known, strict=True) if not is_known]

    def _serve(self) -> None:
        """Serve delivery reports, which nobody else does between two appends."""
        while not self._complete.is_set():
            newest = self._sent[-1][1] if self._sent else None
            if newest is None or newest.delivered:
                time.sleep(LOOK_S)
            else:
                self._ledger.wait_delivered(newest, time.monotonic() + LOOK_S)
