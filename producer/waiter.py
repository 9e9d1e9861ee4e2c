"""Waiting for outcomes: a NOTIFY says that a lane was folded, and a query every 250 ms makes up for a lost one."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg

from core_tables.projection.postgres.connection import Connection, CurrentDsn, connect
from core_tables.projection.postgres.failures import translate
from core_tables.projection.postgres.forks import reset_after_fork
from core_tables.projection.postgres.lane_reads import missing_outcome
from core_tables.projection.postgres.lanes import folded_past, topic_named
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.postgres.registrations import check_registered
from core_tables.schemas.identity import lane_of
from core_tables.schemas.outcomes import Outcome
from core_tables.schemas.reasons import CoreTablesError, SetupError, UnavailableError

_ASK_EVERY_S: Final = 0.25
_MAX_PAUSE_S: Final = 5.0


@dataclass(frozen=True, eq=False)
class _WhenFolded:
    """What somebody wants to be called for."""

    lane: int
    end: int
    act: Callable[[], None]


class OutcomeWaiter:
    """Knows how far each lane is folded, and waits until a lane is folded further. Threads and forked processes can use it.

    It has a thread that listens, on a connection that is reopened when it is lost. The reads have connections of their own.
    Without `listens`, because a pooler is in between, it only asks.
    """

    def __init__(
        self, dsn: CurrentDsn, reads: Reads, listener: Connection | None = None, *, listens: bool = True
    ) -> None:
        self.reads = reads
        reads.wait_with(self.wait_folded)
        self._listens = listens
        self._dsn = dsn
        self._inherited: list[Connection] = []  # the parent's: closing one would end its session
        self._begin(listener)
        reset_after_fork(self)

    @classmethod
    def connect(cls, dsn: CurrentDsn, reads: Reads, *, pooled: bool = False) -> "OutcomeWaiter":
        """Open the connection that listens. Raises UnavailableError or SetupError.

        `pooled`: the DSN leads to a pooler in transaction mode, which passes no notification on.
        """
        return cls(dsn, reads, None if pooled else _open_listener(dsn), listens=not pooled)

    def lanes_of(self, topic: str) -> tuple[int, int]:
        """The first lane of a topic, and how many it has.

        Raises SetupError if the database does not know it, or the schema that this release writes is not registered for it.
        """
        known = topic_named(self.reads.topics(), topic)
        check_registered(known.first_lane, self.reads.registered_fingerprints(known.first_lane))
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
            if folded:
                found.update(self._read_outcomes(folded, deadline))
                for ids in waiting.values():
                    ids.difference_update(found)
            if interrupted is not None and found:
                return set()
            return {lane_of(event_id) for ids in waiting.values() for event_id in ids}

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
        self._closing.set()
        if self._thread is not None:
            self._thread.join(2)
        elif self._listener is not None:
            self._listener.close()
        self.reads.close()

    def after_fork(self) -> None:
        """Start over in a child process, which has no listening thread."""
        if self._listener is not None:
            self._inherited.append(self._listener)
        self._begin(None)

    def _begin(self, listener: Connection | None) -> None:
        self._news = threading.Condition()
        self._applied: dict[int, int] = {}
        self._when_folded: set[_WhenFolded] = set()
        self._notes = 0  # how often something was reported
        self._reported_at: dict[int, float] = {}  # by lane, in monotonic seconds
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._listener = listener

    def _start_listening(self) -> None:
        if not self._listens:
            return
        with self._news:
            if self._thread is None:
                self._thread = threading.Thread(target=self._listen, name="core-tables listener", daemon=True)
                self._thread.start()

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
        self._note(self.reads.until(deadline).applied_of(lanes))

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
            applied = reads.applied_of({lane_of(event_id) for ids in missing.values() for event_id in ids})
            self._applied.update(applied)
            # Decided by this answer and not by `_applied`, which any program may raise meanwhile with a notification.
            still = _where(missing, lambda event_id: folded_past(applied[lane_of(event_id)], event_id))
            found |= reads.outcomes_of(still)
            if lost := _where(still, lambda event_id: event_id not in found):
                raise missing_outcome(min(min(ids) for ids in lost.values()))
        return found

    def _listen(self) -> None:
        pause = _ASK_EVERY_S
        closing = self._closing
        while not closing.is_set():
            try:
                if self._listener is None or self._listener.closed:
                    self._listener = _open_listener(self._dsn)
                for notification in self._listener.notifies(timeout=_ASK_EVERY_S):
                    lane, _, applied = notification.payload.partition(":")
                    if lane.isdecimal() and applied.isdecimal():  # any program may send a notification
                        self._note({int(lane): int(applied)})
                pause = _ASK_EVERY_S
            except (psycopg.Error, CoreTablesError):  # the waiting threads query Postgres themselves, and get the error
                if self._listener is not None:
                    self._listener.close()
                closing.wait(pause)
                pause = min(2 * pause, _MAX_PAUSE_S)
        if self._listener is not None:
            self._listener.close()


def _where(event_ids: Mapping[str, set[int]], holds: Callable[[int], bool]) -> dict[str, set[int]]:
    """By tenant, the event ids that a condition holds for; tenants with none are left out."""
    chosen = {tenant_id: set(filter(holds, ids)) for tenant_id, ids in event_ids.items()}
    return {tenant_id: ids for tenant_id, ids in chosen.items() if ids}


def _open_listener(dsn: CurrentDsn) -> Connection:
    listener = connect(dsn, name="core-tables listener")
    try:
        listener.autocommit = True
        listener.execute("listen core_tables")
    except psycopg.errors.ReadOnlySqlTransaction as error:
        listener.close()
        raise SetupError(
            "this Postgres is a standby or read-only, and nobody can listen there; let postgres_dsn name the primary",
            "database",
        ) from error
    except psycopg.Error as error:
        listener.close()
        raise translate(error) from error
    return listener
