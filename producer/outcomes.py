"""Waiting for outcomes: woken by NOTIFY, read by id, polled every 250 ms in case a wake-up was lost."""

import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import psycopg

from core_tables.projection.database import Connection, connect, translated
from core_tables.projection.reads import Reads, folded_past, missing_outcome
from core_tables.projection.statements import sql
from core_tables.schemas.identity import lane_of
from core_tables.schemas.outcomes import Outcome
from core_tables.schemas.reasons import SetupError

POLL_S: Final = 0.25


class OutcomeWaiter:
    """Knows how far each lane is folded. Its listener is a thread with a session connection of its own; thread-safe."""

    def __init__(self, listener: Connection, reads: Reads) -> None:
        self.reads = reads
        self._listener = listener
        self._reading = threading.Lock()
        self._moved = threading.Condition()
        self._applied: dict[int, int] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._listen, name="outcomes", daemon=True)
        self._thread.start()

    @classmethod
    def connect(cls, dsn: str) -> "OutcomeWaiter":
        """A waiter with connections of its own. Raises UnavailableError or SetupError."""
        listener = connect(dsn, name="core-tables listener")
        with translated():
            listener.autocommit = True
            listener.execute("listen core_tables")
        return cls(listener, Reads(connect(dsn, name="core-tables outcomes")))

    def first_lane(self, topic: str) -> int:
        """The first lane of a topic. Raises SetupError if the database does not know it."""
        with self._reading, translated(), self.reads.connection.transaction():
            rows: Any = self.reads.connection.execute(sql("load_topics")).fetchall()
        for row in rows:
            if row[1] == topic:
                return int(row[0])
        raise SetupError(f"the database does not know the topic {topic}; run `core-tables init`", "database")

    def wait(self, tenant_id: str, event_ids: Sequence[int], deadline: float) -> dict[int, Outcome]:
        """The outcomes of records of one tenant, as far as they are known at `deadline` (monotonic seconds)."""
        found: dict[int, Outcome] = {}
        waiting = set(event_ids)
        while waiting:
            known = {position for position in waiting if folded_past(self._applied.get(lane_of(position), 0), position)}
            if known:
                with self._reading:
                    found |= self.reads.outcomes(tenant_id, sorted(known))
                if missing := known - found.keys():
                    raise missing_outcome(min(missing))
                waiting -= known
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                break
            with self._moved:
                woken = self._moved.wait(min(left, POLL_S))
            if not woken:
                self._ask({lane_of(position) for position in waiting})
        return found

    def close(self) -> None:
        """End the listener and close both connections."""
        self._closing = True
        self._thread.join(2)
        self._listener.close()
        self.reads.connection.close()

    def _ask(self, lanes: set[int]) -> None:
        with self._reading:
            positions = {lane: self.reads.applied(lane) for lane in lanes}
        with self._moved:
            for lane, applied in positions.items():
                self._applied[lane] = max(self._applied.get(lane, 0), applied)

    def _listen(self) -> None:
        while not self._closing:
            try:
                for notification in self._listener.notifies(timeout=POLL_S):
                    lane, _, applied = notification.payload.partition(":")
                    with self._moved:
                        self._applied[int(lane)] = max(self._applied.get(int(lane), 0), int(applied))
                        self._moved.notify_all()
            except psycopg.Error:
                return  # waiters poll from now on
