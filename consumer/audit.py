"""The audit thread: one transactional producer per lane, and the audit topic as its own position.

Step 5 of the worker's rule (worker.py). The thread shares one thing with the fold: the bounded queue.
"""

import contextlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from core_tables.consumer.kafka import REQUEST_TIMEOUT_S, translate
from core_tables.projection.fold import Decided
from core_tables.schemas.audit import audit_event, decode_audit, encode_audit
from core_tables.schemas.identity import lane_of, offset_of
from core_tables.schemas.reasons import LaneStoppedError, UnavailableError

PER_TRANSACTION: Final = 2000
CLOSE_TIMEOUT_S: Final = 5.0
MAX_BACKOFF_S: Final = 5.0
TAIL_STEP: Final = 50


@dataclass
class LaneQueue:
    """The outcomes of one lane that wait for the audit topic: those of offsets from `start`, without a gap."""

    lane: int
    floor: int
    start: int
    entries: deque[Decided] = field(default_factory=deque)


class AuditQueue:
    """What the fold hands to the audit thread. Every method may be called from either thread."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._lanes: dict[int, LaneQueue] = {}
        self._count = 0
        self._positions: dict[int, int] = {}
        self._stopped: dict[int, LaneStoppedError] = {}

    def open(self, lane: int, floor: int, start: int) -> None:
        """Begin a lane anew: what was queued of it is dropped."""
        with self._lock:
            self._forget(lane)
            self._lanes[lane] = LaneQueue(lane, floor, start)

    def drop(self, lane: int) -> None:
        """Forget a lane. Nothing is flushed: the successor recalls what was not emitted."""
        with self._lock:
            self._forget(lane)

    def _forget(self, lane: int) -> None:
        queue = self._lanes.pop(lane, None)
        if queue is not None:
            self._count -= len(queue.entries)
        self._positions.pop(lane, None)
        self._stopped.pop(lane, None)

    def put(self, lane: int, decided: list[Decided]) -> None:
        """Queue the outcomes of a lane's batch, in order."""
        with self._wake:
            queue = self._lanes.get(lane)
            if queue is not None:
                queue.entries.extend(decided)
                self._count += len(decided)
                self._wake.notify()

    def full(self) -> bool:
        """Whether fetching has to pause."""
        return self._count >= self._size

    def drained(self) -> bool:
        """Whether fetching may go on after a pause."""
        return self._count <= self._size // 2

    def empty(self) -> bool:
        """Whether everything queued is in the audit topic."""
        return self._count == 0

    def position(self, lane: int) -> int:
        """The offset below which everything of the lane is known to be in the audit topic; 0: not known."""
        return self._positions.get(lane, 0)

    def stopped(self) -> dict[int, LaneStoppedError]:
        """The lanes whose audit cannot go on, and why."""
        with self._lock:
            return dict(self._stopped)

    def waiting(self, timeout: float) -> list[LaneQueue]:
        """The lanes that have something to emit; waits for one."""
        with self._wake:
            if self._count == 0:
                self._wake.wait(timeout)
            return [queue for queue in self._lanes.values() if queue.entries and queue.lane not in self._stopped]

    def first(self, queue: LaneQueue, count: int) -> list[Decided]:
        """The first outcomes of a lane's queue, which stay in it."""
        with self._lock:
            return [queue.entries[i] for i in range(min(count, len(queue.entries)))]

    def confirm(self, queue: LaneQueue, position: int) -> None:
        """Take what lies below a confirmed position out of a lane's queue."""
        with self._lock:
            if self._lanes.get(queue.lane) is not queue:
                return
            while queue.entries and offset_of(queue.entries[0].position_id) < position:
                queue.entries.popleft()
                self._count -= 1
            queue.start = max(queue.start, position)
            self._positions[queue.lane] = position

    def stop(self, queue: LaneQueue, error: LaneStoppedError) -> None:
        """Give a lane up until a person has looked; the fold reads why and stops the lane."""
        with self._lock:
            if self._lanes.get(queue.lane) is queue:
                self._stopped[queue.lane] = error

    def holds(self, queue: LaneQueue) -> bool:
        """Whether this is still the lane's queue."""
        return self._lanes.get(queue.lane) is queue


@dataclass
class _Output:
    """An open producer of a lane, and the next offset to emit."""

    producer: Producer
    position: int
    fresh: bool
    queue: LaneQueue


class AuditThread:
    """Emits queued outcomes, lane by lane, each batch in one transaction."""

    def __init__(
        self,
        queue: AuditQueue,
        topic: str,
        first_lane: int,
        open_producer: Callable[[str], Producer],
        tails: Consumer,
        log: Any,
    ) -> None:
        self._queue = queue
        self._topic = topic
        self._first_lane = first_lane
        self._open_producer = open_producer
        self._tails = tails
        self._log = log
        self._outputs: dict[int, _Output] = {}
        self._retry_at: dict[int, tuple[float, float]] = {}  # lane: when, and how long the pause was
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def alive(self) -> bool:
        """Whether the thread runs; one that died is a defect that must not go unseen."""
        return self._thread.is_alive()

    def close(self, *, flush: bool) -> None:
        """Emit what is queued for at most 5 s, if asked to, and end the thread."""
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        while flush and self.alive() and not self._queue.empty() and time.monotonic() < deadline:
            time.sleep(0.01)
        self._closing.set()
        self._thread.join(REQUEST_TIMEOUT_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            emitted = False
            now = time.monotonic()
            queues = self._queue.waiting(0.1)
            for lane in [lane for lane, output in self._outputs.items() if not self._queue.holds(output.queue)]:
                self._close_output(lane)
            due = [queue for queue in queues if self._retry_at.get(queue.lane, (0.0, 0.0))[0] <= now]
            self._open_all([queue for queue in due if queue.lane not in self._outputs])
            begun = [(queue, step) for queue in due if (step := self._guarded(queue, self._begin)) is not None]
            for queue, position in begun:
                emitted |= self._guarded(queue, partial(self._commit, position)) is not None
            if queues and not emitted:
                self._closing.wait(0.02)
        for lane in list(self._outputs):
            self._close_output(lane)

    def _open_all(self, queues: list[LaneQueue]) -> None:
        """Open producers at the same time: each waits half a second for its coordinator, and a worker has many."""
        if queues:
            with ThreadPoolExecutor(len(queues), thread_name_prefix="audit-open") as pool:
                list(pool.map(lambda queue: self._guarded(queue, self._init), queues))
            for queue in queues:
                if queue.lane in self._outputs:
                    self._guarded(queue, self._find_position)

    def _close_output(self, lane: int) -> None:
        """Let a producer go, aside: closing one that was fenced may take as long as its transaction."""
        output = self._outputs.pop(lane, None)
        if output is not None:
            threading.Thread(target=_close_producer, args=(output.producer,), daemon=True).start()

    def _guarded(self, queue: LaneQueue, step: Callable[[LaneQueue], int | None]) -> int | None:
        """Run a step of a lane; after any error its producer is closed, and the step begins again with a new one."""
        try:
            return step(queue)
        except LaneStoppedError as error:
            self._queue.stop(queue, error)
            self._close_output(queue.lane)
        except (KafkaException, UnavailableError, BufferError) as error:
            self._close_output(queue.lane)
            pause = min(MAX_BACKOFF_S, 2 * self._retry_at.get(queue.lane, (0.0, 0.1))[1])
            # Two workers that both believe they own the lane fence each other; chance lets one of them finish.
            self._retry_at[queue.lane] = (time.monotonic() + pause * random.uniform(0.5, 1), pause)  # noqa: S311
            self._log.warning("audit_reopens", lane=queue.lane, cause=str(error), pause_s=round(pause, 2))
        except Exception as error:  # a defect of ours: this lane's audit stops, with its cause, and the others go on
            self._log.exception("audit_failed", lane=queue.lane)
            self._queue.stop(queue, LaneStoppedError(f"lane {queue.lane}: the audit failed: {error!r}"))
            self._close_output(queue.lane)
        return None

    def _begin(self, queue: LaneQueue) -> int | None:
        """Begin a transaction with what lies at or above the position; return the position after it."""
        output = self._outputs.get(queue.lane)
        if output is None:
            return None
        self._queue.confirm(queue, output.position)
        if queue.start > output.position:
            if output.fresh:
                raise LaneStoppedError(
                    f"lane {queue.lane}: the audit topic ends at offset {output.position}, but outcomes are known from "
                    f"{queue.start} on only; audit records were lost: restore the audit topic"
                )
            raise UnavailableError("kafka", "the tail of the audit topic was stale")
        output.fresh = False
        decided = self._queue.first(queue, PER_TRANSACTION)
        if not decided:
            return None
        output.producer.begin_transaction()
        partition = queue.lane - self._first_lane
        for item in decided:
            self._produce(output.producer, partition, item)
        return offset_of(decided[-1].position_id) + 1

    def _produce(self, producer: Producer, partition: int, item: Decided) -> None:
        event = audit_event(item.position_id, item.tenant_id, item.event, item.outcome, item.broker_time)
        headers: Any = None if item.traceparent is None else [("traceparent", item.traceparent)]
        key = item.tenant_id.encode()
        producer.produce(self._topic, encode_audit(event), key, partition=partition, headers=headers)

    def _commit(self, position: int, queue: LaneQueue) -> int | None:
        output = self._outputs[queue.lane]
        output.producer.commit_transaction(REQUEST_TIMEOUT_S)
        output.position = position
        self._queue.confirm(queue, position)
        self._retry_at.pop(queue.lane, None)
        return position

    def _init(self, queue: LaneQueue) -> None:
        """Open a lane's producer, which fences whoever had its transactional.id before."""
        producer = self._open_producer(f"{self._topic}.{queue.lane - self._first_lane}")
        output = _Output(producer, 0, True, queue)
        self._outputs[queue.lane] = output
        producer.init_transactions(REQUEST_TIMEOUT_S)

    def _find_position(self, queue: LaneQueue) -> None:
        """Read the tail, after `init_transactions`: before, it could miss what the predecessor was committing."""
        tail = self._tail(queue.lane - self._first_lane)
        position = queue.floor if tail is None else offset_of(tail) + 1
        if tail is not None and (lane_of(tail) != queue.lane or position < queue.floor):
            raise LaneStoppedError(
                f"lane {queue.lane}: the audit topic ends at record {tail}, below the floor {queue.floor} that Postgres "
                "holds; it lost records or is another topic: restore it"
            )
        self._outputs[queue.lane].position = position

    def _tail(self, partition: int) -> int | None:
        """The event_id of the last committed audit record of a partition, or None."""
        target = TopicPartition(self._topic, partition)
        low, high = self._tails.get_watermark_offsets(target, timeout=REQUEST_TIMEOUT_S, cached=False)
        start, step = high, TAIL_STEP
        while start > low:
            start, step = max(low, start - step), step * 8
            last = self._last_from(partition, start, high)
            if last is not None:
                return last
        return None

    def _last_from(self, partition: int, start: int, high: int) -> int | None:
        self._tails.assign([TopicPartition(self._topic, partition, start)])
        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        last: int | None = None
        while time.monotonic() < deadline:
            for message in self._tails.consume(500, 0.1):
                error = message.error()
                value = message.value()
                if error is None and value is not None:
                    last = decode_audit(value).event_id
                elif error is not None and error.code() == KafkaError._PARTITION_EOF:
                    return last
                elif error is not None:
                    raise translate(error)
            if self._tails.position([TopicPartition(self._topic, partition)])[0].offset >= high:
                return last
        raise UnavailableError("kafka", f"the end of audit partition {partition} could not be read in time")


def _close_producer(producer: Producer) -> None:
    with contextlib.suppress(KafkaException, RuntimeError):
        producer.purge()
        producer.close()
