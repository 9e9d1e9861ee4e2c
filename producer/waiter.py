"""Waiting for outcomes: a NOTIFY says that a lane was folded, and a query every 250 ms makes up for a lost one."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from core_tables.producer.lane_listener import HEAR_S, LaneListener
from core_tables.projection.postgres.connection import CurrentDsn
from core_tables.projection.postgres.forks import reset_after_fork
from core_tables.projection.postgres.lane_reads import missing_outcome
from core_tables.projection.postgres.lanes import folded_past, topic_named
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.postgres.registrations import check_registered
from core_tables.schemas.identity import lane_of
from core_tables.schemas.outcomes import Outcome
from core_tables.schemas.reasons import UnavailableError

_ASK_EVERY_S: Final = HEAR_S
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class _WhenFolded:
    """What somebody wants to be called for."""

    lane: int
    end: int
    act: Callable[[], None]


class OutcomeWaiter:
    """Knows how far each lane is folded, and waits until a lane is folded further. Threads and forked processes can use it.

    It listens to each database of `dsns`. The reads have connections of their own. Without a DSN, because a pooler is in between,
    it only asks.
    """

    def __init__(self, dsns: Sequence[CurrentDsn], reads: Reads) -> None:
        self.reads = reads
        reads.wait_with(self.wait_folded)
        self._listeners = [LaneListener(dsn, self._note) for dsn in dsns]
        self._begin()
        reset_after_fork(self)

    @classmethod
    def connect(cls, dsns: Sequence[CurrentDsn], reads: Reads, *, pooled: bool = False) -> "OutcomeWaiter":
        """Open the connections that listen. Raises UnavailableError if no database answers, or SetupError.

        `pooled`: the DSNs lead to poolers in transaction mode, which pass no notification on.
        """
        waiter = cls(() if pooled else dsns, reads)
        answers_of([listener.open for listener in waiter._listeners])
        return waiter

    def lanes_of(self, topic: str) -> tuple[int, int]:
        """The first lane of a topic, and how many it has.

        Raises SetupError if the database does not know it, or the schema that this release writes is not registered for it.
        """
        known = topic_named(self.reads.topics(), topic)
        together = self.reads.by_database(range(known.first_lane, known.first_lane + known.partitions))
        # The first and the last: a database that is only a part shows, and a row that is lost between them stops its lane alone.
        ends = [sorted({lanes[0], lanes[-1]}) for lanes in together]
        for registered in answers_of([partial(self.reads.registered_fingerprints, lanes) for lanes in ends]):
            for lane, fingerprints in registered.items():
                check_registered(lane, fingerprints)
        return known.first_lane, known.partitions

    def wait(
        self,
        event_ids: Mapping[str, Sequence[int]],
        deadline: float,
        *,
        interrupted: Callable[[], bool] | None = None,
    ) -> dict[int, Outcome]:
        """The outcomes of records, given by tenant, that are known at `deadline` (monotonic seconds).

        With `interrupted`, it returns as soon as any outcome is known, or when that is true; `wake` makes it look.
        Raises UnavailableError if Postgres still does not answer at the deadline.
        """
        found: dict[int, Outcome] = {}
        waiting = {tenant_id: set(ids) for tenant_id, ids in event_ids.items()}

        def look() -> set[int]:
            folded = _where(waiting, self._is_folded)
            failed: UnavailableError | None = None
            for lanes in self.reads.by_database(_lanes(folded)):
                try:
                    of_these = _where(folded, lambda event_id, lanes=lanes: lane_of(event_id) in lanes)  # type: ignore[misc]
                    found.update(self._read_outcomes(of_these, deadline))
                except UnavailableError as error:  # another database may answer
                    failed = error
            for ids in waiting.values():
                ids.difference_update(found)
            if interrupted is not None and found:
                return set()
            if failed is not None:
                raise failed
            return _lanes(waiting)

        self._until(look, deadline, interrupted)
        return found

    def when_folded(self, lane: int, end: int, act: Callable[[], None]) -> "_WhenFolded":
        """Call `act` when a notification says that a lane is folded up to `end`, at once if one has said so.

        Notifications get lost, so do not wait for it alone; give what this returns to `forget` in the end.
        """
        self._start_listening()
        wanted = _WhenFolded(lane, end, act)
        with self._news:
            self._when_folded.add(wanted)
        self._call_folded()
        return wanted

    def forget(self, wanted: "_WhenFolded") -> None:
        """Call it no more."""
        with self._news:
            self._when_folded.discard(wanted)

    def applied(self, lane: int) -> int:
        """How far a lane is known to be folded."""
        return self._applied.get(lane, 0)

    def wake(self) -> None:
        """Let those who wait see whether they are interrupted."""
        with self._news:
            self._news.notify_all()

    def wait_folded(self, lane: int, end: int, deadline: float) -> int:
        """Wait until a lane is folded up to `end`, or until `deadline` (monotonic seconds); return how far it is folded."""
        self._until(lambda: set() if self.applied(lane) >= end else {lane}, deadline)
        return self.applied(lane)

    def close(self) -> None:
        """End the listener and close the connections."""
        for listener in self._listeners:
            listener.end()
        for listener in self._listeners:
            listener.close()
        self.reads.close()

    def after_fork(self) -> None:
        """Start over in a child process, which has no listening thread."""
        for listener in self._listeners:
            listener.after_fork()
        self._begin()

    def _begin(self) -> None:
        self._news = threading.Condition()
        self._applied: dict[int, int] = {}
        self._when_folded: set[_WhenFolded] = set()
        self._notes = 0  # how often something was reported
        self._reported_at: dict[int, float] = {}  # by lane, in monotonic seconds

    def _start_listening(self) -> None:
        with self._news:
            for listener in self._listeners:
                listener.start()

    def _is_folded(self, event_id: int) -> bool:
        return folded_past(self.applied(lane_of(event_id)), event_id)

    def _until(
        self, look: Callable[[], set[int]], deadline: float, interrupted: Callable[[], bool] | None = None
    ) -> None:
        """Call `look` whenever a lane was folded further, until it returns no lane to wait for, or until the deadline."""
        self._start_listening()
        while True:
            failed: UnavailableError | None = None
            seen = self._notes
            try:
                lanes = look()
                if not lanes:
                    return
                silent = self._silent(lanes)
                if silent:
                    self._ask(silent, deadline)
                    continue
            except UnavailableError as error:
                failed = error
            left = deadline - time.monotonic()
            if left <= 0:
                if failed is not None:
                    raise failed
                return
            with self._news:
                if interrupted is not None and interrupted():
                    return
                if self._notes == seen:  # else there was news while it looked
                    self._news.wait(min(left, _ASK_EVERY_S))

    def _silent(self, lanes: set[int]) -> set[int]:
        since = time.monotonic() - _ASK_EVERY_S
        return {lane for lane in lanes if self._reported_at.get(lane, since) <= since}

    def _ask(self, lanes: Collection[int], deadline: float) -> None:
        reads, failed = self.reads.until(deadline), None
        for together in reads.by_database(lanes):
            try:
                self._note(reads.applied_of(together))
            except UnavailableError as error:  # another database may answer
                failed = error
        if failed is not None:
            raise failed

    def _note(self, applied: Mapping[int, int]) -> None:
        with self._news:
            for lane, offset in applied.items():
                self._applied[lane] = max(self._applied.get(lane, 0), offset)
                self._reported_at[lane] = time.monotonic()
            self._notes += 1
            self._news.notify_all()
        self._call_folded()

    def _call_folded(self) -> None:
        with self._news:
            ready = {wanted for wanted in self._when_folded if self.applied(wanted.lane) >= wanted.end}
            self._when_folded -= ready
        for wanted in ready:
            wanted.act()

    def _read_outcomes(self, folded: Mapping[str, set[int]], deadline: float) -> dict[int, Outcome]:
        """The outcomes of records that were reported as folded, by tenant."""
        reads = self.reads.until(deadline)
        found = reads.outcomes_of(folded)
        missing = _where(folded, lambda event_id: event_id not in found)
        if missing:  # the notification may be from a server that lost its last commits in a failover
            applied = reads.applied_of(_lanes(missing))
            self._applied.update(applied)
            # Decided by this answer and not by `_applied`, which any program may raise meanwhile with a notification.
            still = _where(missing, lambda event_id: folded_past(applied[lane_of(event_id)], event_id))
            found |= reads.outcomes_of(still)
            if lost := _where(still, lambda event_id: event_id not in found):
                raise missing_outcome(min(min(ids) for ids in lost.values()))
        return found


def answers_of(asks: Sequence[Callable[[], _T]]) -> list[_T]:
    """What those databases answer that do. Raises UnavailableError if none does, and SetupError if one is not as it should be."""
    answers, failed = [], None
    for ask in asks:
        try:
            answers.append(ask())
        except UnavailableError as error:
            failed = error
    if failed is not None and not answers:
        raise failed
    return answers


def _lanes(event_ids: Mapping[str, Collection[int]]) -> set[int]:
    return {lane_of(event_id) for ids in event_ids.values() for event_id in ids}


def _where(event_ids: Mapping[str, set[int]], holds: Callable[[int], bool]) -> dict[str, set[int]]:
    """By tenant, the event ids that a condition holds for; tenants with none are left out."""
    chosen = {tenant_id: set(filter(holds, ids)) for tenant_id, ids in event_ids.items()}
    return {tenant_id: ids for tenant_id, ids in chosen.items() if ids}
