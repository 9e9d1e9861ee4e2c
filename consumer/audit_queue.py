"""The bounded queue of encoded outcomes between fold and audit thread: all that the two share."""

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from core_tables.consumer.audit_record import AuditRecord
from core_tables.consumer.lane import Trouble
from core_tables.consumer.timer import Clock
from core_tables.schemas.identity import lane_of, offset_of
from core_tables.schemas.reasons import CoreTablesError


@dataclass
class LaneQueue:
    """The outcomes of one lane that wait for the audit topic: those of offsets from `start`, without a gap.

    `trouble`: why the last try to emit some failed, and since when; None after one that succeeded.
    """

    lane: int
    audited: int
    start: int
    entries: deque[AuditRecord] = field(default_factory=deque)
    trouble: Trouble | None = None


class AuditQueue:
    """What the fold hands to the audit thread. Every method may be called from either thread."""

    def __init__(self, size: int, clock: Clock = time.monotonic) -> None:
        self.limit = size
        self._clock = clock
        self._sign_at = clock()
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._lanes: dict[int, LaneQueue] = {}
        self._count = 0
        self._confirmed: dict[int, int] = {}
        self._stopped: dict[int, CoreTablesError] = {}

    def open(self, lane: int, audited: int, start: int) -> None:
        """Open a lane with an empty queue: what was queued for it is dropped."""
        with self._lock:
            self._forget(lane)
            self._lanes[lane] = LaneQueue(lane, audited, start)
            self._confirmed[lane] = audited  # so that a failover which loses the watermark does not lower it for good
            self._wake.notify_all()

    def drop(self, lane: int) -> None:
        """Forget a lane. Nothing is flushed: the successor recalls what was not emitted."""
        with self._lock:
            self._forget(lane)

    def _forget(self, lane: int) -> None:
        queue = self._lanes.pop(lane, None)
        if queue is not None:
            self._count -= len(queue.entries)
        self._confirmed.pop(lane, None)
        self._stopped.pop(lane, None)

    def put(self, records: list[AuditRecord]) -> None:
        """Queue the outcomes of a batch; those of each lane are in order."""
        with self._wake:
            for record in records:
                queue = self._lanes.get(lane_of(record.event_id))
                if queue is not None:
                    queue.entries.append(record)
                    self._count += 1
            self._wake.notify_all()

    def full(self) -> bool:
        """Whether fetching has to pause."""
        return self._count >= self.limit

    def drained(self, timeout: float = 0.0) -> bool:
        """Whether the queue is short enough to continue fetching; waits up to `timeout` seconds for that."""
        with self._wake:
            return self._wake.wait_for(lambda: self._count <= self.limit // 2, timeout)

    def sign(self) -> None:
        """A sign of life of the audit thread: it gives one before each step that may wait."""
        self._sign_at = self._clock()

    def silent_s(self) -> float:
        """How many seconds ago the audit thread gave its last sign of life."""
        return self._clock() - self._sign_at

    def size(self) -> int:
        """How many outcomes wait."""
        return self._count

    def empty(self) -> bool:
        """Whether everything queued is in the audit topic."""
        return self._count == 0

    def confirmed(self, lane: int) -> int:
        """The offset below which everything of the lane is known to be in the audit topic; 0: not known."""
        return self._confirmed.get(lane, 0)

    def stopped(self) -> dict[int, CoreTablesError]:
        """The lanes whose audit has stopped, and why."""
        with self._lock:
            return dict(self._stopped)

    def failing(self) -> list[tuple[int, Trouble]]:
        """The lanes that have something to emit and could not the last time."""
        with self._lock:
            return [(queue.lane, queue.trouble) for queue in self._running() if queue.entries and queue.trouble]

    def lanes(self) -> list[LaneQueue]:
        """The lanes that are open and whose audit has not stopped."""
        with self._lock:
            return self._running()

    def _running(self) -> list[LaneQueue]:
        return [queue for queue in self._lanes.values() if queue.lane not in self._stopped]

    def waiting(self, timeout: float) -> list[LaneQueue]:
        """The lanes that have something to emit; waits for one, or for a lane to be opened."""
        with self._wake:
            if self._count == 0:
                self._wake.wait(timeout)
            return [queue for queue in self._running() if queue.entries]

    def first(self, queue: LaneQueue, count: int) -> list[AuditRecord]:
        """The first outcomes of a lane's queue, which stay in it; none of a queue that was dropped meanwhile.

        What such a queue still holds may lie below the offset that was read since.
        """
        with self._lock:
            if self._lanes.get(queue.lane) is not queue:
                return []
            return list(islice(queue.entries, count))

    def confirm(self, queue: LaneQueue, offset: int) -> None:
        """Everything below `offset` is in the audit topic: take it out of the lane's queue."""
        with self._lock:
            if self._lanes.get(queue.lane) is not queue:
                return
            while queue.entries and offset_of(queue.entries[0].event_id) < offset:
                queue.entries.popleft()
                self._count -= 1
            queue.start = max(queue.start, offset)
            queue.audited = max(queue.audited, offset)  # what an emptied audit partition starts from later
            self._confirmed[queue.lane] = offset
            self._wake.notify_all()

    def stop(self, queue: LaneQueue, error: CoreTablesError) -> None:
        """Stop the audit of a lane. The fold reads why, and stops the lane."""
        with self._lock:
            if self._lanes.get(queue.lane) is queue:
                self._stopped[queue.lane] = error

    def holds(self, queue: LaneQueue) -> bool:
        """Whether this is still the lane's queue."""
        return self._lanes.get(queue.lane) is queue
