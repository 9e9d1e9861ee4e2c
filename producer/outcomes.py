"""Waiting for outcomes: woken by NOTIFY, read by id, asked for every 250 ms in case a wake-up was lost."""

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

POLL_S: Final = 0.25
MAX_PAUSE_S: Final = 5.0


class OutcomeWaiter:
    """Knows how far each lane is folded; thread-safe.

    It has two connections, each opened again when it was lost: the listener's belongs to its thread, the reads' is lent
    to one thread at a time.
    """

    def __init__(self, dsn: str, listener: Connection, reads: Reads) -> None:
        self._dsn = dsn
        self._reads = reads
        self._lending = threading.Lock()
        self._moved = threading.Condition()
        self._applied: dict[int, int] = {}
        self._heard: dict[int, float] = {}  # by lane, when it was last heard of (monotonic)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(listener,), name="outcomes", daemon=True)
        self._thread.start()

    @classmethod
    def connect(cls, dsn: str) -> "OutcomeWaiter":
        """A waiter with connections of its own. Raises UnavailableError or SetupError."""
        return cls(dsn, _open_listener(dsn), _open_reads(dsn))

    @contextmanager
    def reads(self) -> Iterator[Reads]:
        """The reads, for one thread at a time. Raises UnavailableError; the next call opens the connection again then."""
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
        with self.reads() as reads, translated(), reads.connection.transaction():
            rows: Any = reads.connection.execute(sql("load_topics")).fetchall()
        for known in (LedgerTopic(*row) for row in rows):
            if known.topic == topic:
                return known.first_lane, known.partitions
        raise SetupError(f"the database does not know the topic {topic}; run `core-tables init`", "database")

    def wait(self, event_ids: Mapping[str, Sequence[int]], deadline: float) -> dict[int, Outcome]:
        """The outcomes of records, given by tenant, as far as they are known at `deadline` (monotonic seconds).

        Raises UnavailableError if Postgres does not answer at the deadline; until then it is tried again.
        """
        found: dict[int, Outcome] = {}
        waiting = {tenant_id: set(positions) for tenant_id, positions in event_ids.items()}

        def look() -> set[int]:
            folded = _where(waiting, lambda at: folded_past(self._applied.get(lane_of(at), 0), at))
            if folded:
                found.update(self._outcomes(folded))
                for positions in waiting.values():
                    positions.difference_update(found)
            return {lane_of(at) for positions in waiting.values() for at in positions}

        self._until(look, deadline)
        return found

    def wait_folded(self, lane: int, end: int, deadline: float) -> int:
        """Return when a lane is folded up to offset `end`, or else at `deadline` (monotonic seconds): how far it is folded."""
        self._until(lambda: set() if self._applied.get(lane, 0) >= end else {lane}, deadline)
        return self._applied.get(lane, 0)

    def close(self) -> None:
        """End the listener and close both connections."""
        self._closing.set()
        self._thread.join(2)
        with self._lending:
            self._reads.connection.close()

    def _until(self, look: Callable[[], set[int]], deadline: float) -> None:
        """Look again whenever a lane moved, until no lane is waited for any more, or until the deadline."""
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
                self._moved.wait(min(left, POLL_S))

    def _silent(self, lanes: set[int]) -> set[int]:
        since = time.monotonic() - POLL_S
        return {lane for lane in lanes if self._heard.get(lane, since) <= since}

    def _ask(self, lanes: Collection[int]) -> None:
        with self.reads() as reads:
            applied = reads.applied_of(lanes)
        self._hear(applied)

    def _hear(self, applied: Mapping[int, int]) -> None:
        with self._moved:
            for lane, position in applied.items():
                self._applied[lane] = max(self._applied.get(lane, 0), position)
                self._heard[lane] = time.monotonic()
            self._moved.notify_all()

    def _outcomes(self, folded: Mapping[str, set[int]]) -> dict[int, Outcome]:
        """The outcomes of records that were heard to be folded, by tenant."""
        with self.reads() as reads:
            found = reads.outcomes_of(folded)
            missing = _where(folded, lambda at: at not in found)
            if missing:  # what was heard may be of a server that lost it in a failover
                applied = reads.applied_of({lane_of(at) for positions in missing.values() for at in positions})
                self._applied.update(applied)
                still = _where(missing, lambda at: folded_past(applied[lane_of(at)], at))
                found |= reads.outcomes_of(still)
                if lost := _where(still, lambda at: at not in found):
                    raise missing_outcome(min(min(positions) for positions in lost.values()))
        return found

    def _listen(self, listener: Connection) -> None:
        pause = POLL_S
        while not self._closing.is_set():
            try:
                if listener.closed:
                    listener = _open_listener(self._dsn)
                for notification in listener.notifies(timeout=POLL_S):
                    lane, _, applied = notification.payload.partition(":")
                    if lane.isdecimal() and applied.isdecimal():  # anybody may notify
                        self._hear({int(lane): int(applied)})
                pause = POLL_S
            except (psycopg.Error, CoreTablesError):  # whoever waits asks meanwhile, and learns of the error
                listener.close()
                self._closing.wait(pause)
                pause = min(2 * pause, MAX_PAUSE_S)
        listener.close()


def _where(positions: Mapping[str, set[int]], holds: Callable[[int], bool]) -> dict[str, set[int]]:
    """By tenant, the positions that something holds for; tenants with none are left out."""
    chosen = {tenant_id: {at for at in held if holds(at)} for tenant_id, held in positions.items()}
    return {tenant_id: held for tenant_id, held in chosen.items() if held}


def _open_reads(dsn: str) -> Reads:
    return Reads(connect(dsn, name="core-tables outcomes", plans=PLANNED_ONCE))


def _open_listener(dsn: str) -> Connection:
    listener = connect(dsn, name="core-tables listener")
    with translated():
        listener.autocommit = True
        listener.execute("listen core_tables")
    return listener
