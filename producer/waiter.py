"""Waiting for outcomes: woken by NOTIFY, read by id, and asked for every 250 ms in case a notification was lost."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from core_tables.projection.postgres.connection import PLANNED_ONCE, Connection, connect, translated
from core_tables.projection.postgres.reads import Reads, folded_past, missing_outcome
from core_tables.projection.postgres.statements import sql
from core_tables.schemas.identity import lane_of
from core_tables.schemas.outcomes import Outcome
from core_tables.schemas.reasons import CoreTablesError, SetupError, UnavailableError
from core_tables.schemas.topic import LedgerTopic

_ASK_EVERY_S: Final = 0.25
_MAX_PAUSE_S: Final = 5.0


class OutcomeWaiter:
    """Knows how far each lane is folded. Thread-safe.

    It has two connections, each reopened when it is lost: the listener's belongs to a thread, and that of the reads is lent
    to one thread at a time.
    """

    def __init__(self, dsn: str, listener: Connection, reads: Reads) -> None:
        self._dsn = dsn
        self._reads = reads
        self._lending = threading.Lock()
        self._moved = threading.Condition()
        self._applied: dict[int, int] = {}
        self._heard: dict[int, float] = {}  # by lane, when it was last reported (monotonic)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(listener,), name="outcomes", daemon=True)
        self._thread.start()

    @classmethod
    def connect(cls, dsn: str) -> "OutcomeWaiter":
        """A waiter with connections of its own. Raises UnavailableError or SetupError."""
        return cls(dsn, _open_listener(dsn), _open_reads(dsn))

    @contextmanager
    def lend_reads(self) -> Iterator[Reads]:
        """The reads, for one thread at a time. After an UnavailableError the next call reconnects."""
        with self._lending:
            if self._reads.connection.closed and not self._closing.is_set():
                self._reads = self.open_reads()
            try:
                yield self._reads
            except UnavailableError:
                self._reads.connection.close()
                raise

    def open_reads(self) -> Reads:
        """Reads on a connection of their own. Raises UnavailableError or SetupError."""
        return _open_reads(self._dsn)

    def lanes_of(self, topic: str) -> tuple[int, int]:
        """The first lane of a topic, and how many it has. Raises SetupError if the database does not know it."""
        with self.lend_reads() as reads, translated(), reads.connection.transaction():
            rows: Any = reads.connection.execute(sql("load_topics")).fetchall()
        for known in (LedgerTopic(*row) for row in rows):
            if known.topic == topic:
                return known.first_lane, known.partitions
        raise SetupError(f"the database does not know the topic {topic}; run `core-tables init`", "database")

    def wait(self, event_ids: Mapping[str, Sequence[int]], deadline: float) -> dict[int, Outcome]:
        """The outcomes of records, given by tenant, that are known at `deadline` (monotonic seconds).

        Raises UnavailableError if Postgres does not answer at the deadline; until then it is asked again.
        """
        found: dict[int, Outcome] = {}
        waiting = {tenant_id: set(ids) for tenant_id, ids in event_ids.items()}

        def look() -> set[int]:
            folded = _where(waiting, self._is_folded)
            if folded:
                found.update(self._read_outcomes(folded))
                for ids in waiting.values():
                    ids.difference_update(found)
            return {lane_of(event_id) for ids in waiting.values() for event_id in ids}

        self._until(look, deadline)
        return found

    def wait_folded(self, lane: int, end: int, deadline: float) -> int:
        """How far a lane is folded: returns once that is `end`, or at `deadline` (monotonic seconds)."""
        self._until(lambda: set() if self._applied.get(lane, 0) >= end else {lane}, deadline)
        return self._applied.get(lane, 0)

    def close(self) -> None:
        """End the listener and close both connections."""
        self._closing.set()
        self._thread.join(2)
        with self._lending:
            self._reads.connection.close()

    def _is_folded(self, event_id: int) -> bool:
        return folded_past(self._applied.get(lane_of(event_id), 0), event_id)

    def _until(self, look: Callable[[], set[int]], deadline: float) -> None:
        """Look again whenever a lane has moved, until no lane is waited for, or until the deadline."""
        while True:
            failed: UnavailableError | None = None
            try:
                lanes = look()
                if not lanes:
                    return
                silent = self._silent(lanes)
                if silent:
                    self._ask(silent)
                    continue
            except UnavailableError as error:
                failed = error
            left = deadline - time.monotonic()
            if left <= 0:
                if failed is not None:
                    raise failed
                return
            with self._moved:
                self._moved.wait(min(left, _ASK_EVERY_S))

    def _silent(self, lanes: set[int]) -> set[int]:
        since = time.monotonic() - _ASK_EVERY_S
        return {lane for lane in lanes if self._heard.get(lane, since) <= since}

    def _ask(self, lanes: Collection[int]) -> None:
        with self.lend_reads() as reads:
            applied = reads.applied_of(lanes)
        self._hear(applied)

    def _hear(self, applied: Mapping[int, int]) -> None:
        with self._moved:
            for lane, offset in applied.items():
                self._applied[lane] = max(self._applied.get(lane, 0), offset)
                self._heard[lane] = time.monotonic()
            self._moved.notify_all()

    def _read_outcomes(self, folded: Mapping[str, set[int]]) -> dict[int, Outcome]:
        """The outcomes of records that were reported as folded, by tenant."""
        with self.lend_reads() as reads:
            found = reads.outcomes_of(folded)
            missing = _where(folded, lambda event_id: event_id not in found)
            if missing:  # the report may come from a server that lost its last commits in a failover
                applied = reads.applied_of({lane_of(event_id) for ids in missing.values() for event_id in ids})
                self._applied.update(applied)
                # By this answer and not by `_applied`, which any program's notification may raise meanwhile.
                still = _where(missing, lambda event_id: folded_past(applied[lane_of(event_id)], event_id))
                found |= reads.outcomes_of(still)
                if lost := _where(still, lambda event_id: event_id not in found):
                    raise missing_outcome(min(min(ids) for ids in lost.values()))
        return found

    def _listen(self, listener: Connection) -> None:
        pause = _ASK_EVERY_S
        while not self._closing.is_set():
            try:
                if listener.closed:
                    listener = _open_listener(self._dsn)
                for notification in listener.notifies(timeout=_ASK_EVERY_S):
                    lane, _, applied = notification.payload.partition(":")
                    if lane.isdecimal() and applied.isdecimal():  # anybody may notify
                        self._hear({int(lane): int(applied)})
                pause = _ASK_EVERY_S
            except (psycopg.Error, CoreTablesError):  # threads that wait ask meanwhile, and get the error
                listener.close()
                self._closing.wait(pause)
                pause = min(2 * pause, _MAX_PAUSE_S)
        listener.close()


def _where(event_ids: Mapping[str, set[int]], holds: Callable[[int], bool]) -> dict[str, set[int]]:
    """By tenant, the event ids that a condition holds for; tenants with none are left out."""
    chosen = {tenant_id: set(filter(holds, ids)) for tenant_id, ids in event_ids.items()}
    return {tenant_id: ids for tenant_id, ids in chosen.items() if ids}


def _open_reads(dsn: str) -> Reads:
    return Reads(connect(dsn, name="core-tables outcomes", plans=PLANNED_ONCE))


def _open_listener(dsn: str) -> Connection:
    listener = connect(dsn, name="core-tables listener")
    with translated():
        listener.autocommit = True
        listener.execute("listen core_tables")
    return listener
