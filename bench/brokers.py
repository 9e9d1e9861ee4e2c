"""Three brokers, replication 3: appends and their outcomes while one broker after the other is killed and started again."""

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple

from bench import events, pacing, place, running
from bench.latency import WARM_UP, Awaiting, one_at_a_time
from bench.measure import load as load_average
from bench.pacing import Spread
from core_tables.cli import wiring
from core_tables.cli.ledger_log import verify_against_topic
from core_tables.producer import Receipt
from core_tables.schemas.reasons import CoreTablesError
from core_tables.settings.environment import Settings
from tests.cluster import Cluster, three_brokers

Phase = Literal["all up", "one killed", "started again"]
PHASES: Final[tuple[Phase, ...]] = ("all up", "one killed", "started again")
WARM_S: Final = 5.0  # connections and plans


class Broken(NamedTuple):
    """A phase: what was acknowledged and known as folded in it, and the longest time in which nothing was.

    The spread is that of the appends that were due in it.
    """

    node: int
    coordinates: str
    phase: Phase
    acknowledged_per_s: float
    outcomes_per_s: float
    spread: Spread
    append_pause_s: float
    outcome_pause_s: float
    load: float

    def __str__(self) -> str:
        rates = f"{self.acknowledged_per_s:,.0f} appends/s, {self.outcomes_per_s:,.0f} outcomes/s"
        pauses = (
            f"p99 {self.spread.p99_ms:,.0f} ms, pauses {self.append_pause_s:.1f} s and {self.outcome_pause_s:.1f} s"
        )
        return f"broker {self.node} ({self.coordinates}), {self.phase}: {rates}, {pauses}"


class _Span(NamedTuple):
    """A phase of a broker, from when to when (monotonic)."""

    node: int
    coordinates: str
    phase: Phase
    begun: float
    ended: float


class _Load:
    """Appends at a rate, in a thread, and awaits every outcome."""

    def __init__(self, settings: Settings, rate: float) -> None:
        self._rate = rate
        self._ended = threading.Event()
        self._ledger = wiring.ledger(settings)
        self._events = events.day(10_000_000)
        one_at_a_time(self._ledger, self._events, WARM_UP)  # Awaiting does not wait for connections
        self._awaiting = Awaiting(self._ledger)
        self.receipts: list[Receipt] = []
        self._acknowledged: list[float] = []
        self._thread = threading.Thread(target=self._append)
        self._thread.start()

    def end(self, spans: Sequence[_Span]) -> list[Broken]:
        """Stop, await what is left, and say what each phase was like."""
        self._ended.set()
        self._thread.join()
        took = self._awaiting.finish()
        self._ledger.close()
        return [self._broken(span, took) for span in spans]

    def _append(self) -> None:
        while not self._ended.is_set():
            pacing.pace(self._rate, 0.5, lambda due: self._send(self._ledger.append(next(self._events)), due))

    def _send(self, receipt: Receipt, due: float) -> None:
        receipt.when_settled(lambda: self._acknowledged.append(time.monotonic()))
        self.receipts.append(receipt)
        self._awaiting.add(receipt, due)

    def _broken(self, span: _Span, took: Sequence[tuple[float, float]]) -> Broken:
        acknowledged = _within(span, self._acknowledged)
        known = _within(span, (due + seconds for due, seconds in took))
        lasted = span.ended - span.begun
        return Broken(
            *span[:3],
            len(acknowledged) / lasted,
            len(known) / lasted,
            pacing.spread([seconds for due, seconds in took if span.begun <= due < span.ended]),
            _longest(span, acknowledged),
            _longest(span, known),
            load_average(),
        )


def _within(span: _Span, times: Iterator[float] | Sequence[float]) -> list[float]:
    return sorted(at for at in times if span.begun <= at < span.ended)


def _longest(span: _Span, times: Sequence[float]) -> float:
    """The longest time between two of them, or between one and an end of the span."""
    return max(after - before for before, after in itertools.pairwise([span.begun, *times, span.ended]))


def measure(base: Settings, folder: Path, nodes: Sequence[int], rate: float, seconds: float) -> Iterator[Broken]:
    """Kill brokers in turn, that of the group's coordinator first. Raises RuntimeError if something is lost or different."""
    with three_brokers(folder) as brokers:
        named = base.model_copy(update={"bootstrap_servers": brokers.servers, "replication": 3})
        brokers.wait(named)
        with (
            place.tables(place.own_topic(named)) as settings,
            running.worker(settings, "--processes", "2", log=folder / "workers.log"),
        ):
            load = _Load(settings, rate)
            time.sleep(WARM_S)
            spans = list[_Span]()
            try:
                first = brokers.coordinator(settings)
                for node in sorted(nodes, key=lambda each: (each != first, each)):
                    spans += _kill(brokers, node, settings, seconds)
            finally:
                found = load.end(spans)
            running.wait_until_folded(settings)
            _check(settings, load.receipts)
            yield from found


def _kill(brokers: Cluster, node: int, settings: Settings, seconds: float) -> Iterator[_Span]:
    """The phases of one broker."""
    lanes = brokers.audit_coordinators(settings).count(node)
    group = "the group, " if brokers.coordinator(settings) == node else ""
    for phase in PHASES:
        begun = time.monotonic()
        if phase == "one killed":
            brokers.kill(node)
        elif phase == "started again":
            brokers.start(node)
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
        yield _Span(node, f"{group}the audit of {lanes} lanes", phase, begun, time.monotonic())
    brokers.wait(settings)


def _check(settings: Settings, receipts: Sequence[Receipt]) -> None:
    """Everything that was acknowledged is there, and the tables are the fold of the topic."""
    known = set()
    for receipt in receipts:
        with suppress(CoreTablesError):
            known.add(receipt.event_id(0))
    with wiring.operator(settings) as connection:
        report = verify_against_topic(settings, [connection], lambda _: None)
        rows = connection.execute(
            "select work_order_event_id from os_core.work_order_ledger union all select event_id from os_core.work_order_outcomes"
        ).fetchall()
    stored = {row[0] for row in rows}
    if report.differences or not known <= stored or len(rows) != len(stored):
        raise RuntimeError(
            f"{len(report.differences)} differences, {len(known - stored)} acknowledged appends are lost"
        )
