"""The audit: one transactional producer per lane, and the audit topic as its own position.

Step 5 of the worker's rule (worker.py). The emitter takes what the fold has queued, lane by lane; a thread runs it.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from core_tables.consumer.audit_queue import AuditQueue, LaneQueue
from core_tables.consumer.audit_record import AuditRecord
from core_tables.consumer.checks import defect
from core_tables.kafka.clients import REQUEST_TIMEOUT_S
from core_tables.kafka.errors import RESTORE_TOPIC, translate_running
from core_tables.schemas.identity import lane_of, offset_of
from core_tables.schemas.reasons import CoreTablesError, LaneStoppedError, UnavailableError

PER_TRANSACTION: Final = 2000
CLOSE_TIMEOUT_S: Final = 5.0
MAX_BACKOFF_S: Final = 5.0
WAIT_S: Final = 0.1
GATHER_S: Final = 0.25
MAX_PAUSE_S: Final = 0.03


@dataclass
class _Output:
    """An open producer of a lane, and the next offset to emit.

    `landed` is where the last record of the transaction lies in the audit partition (None: not known), `committed` where
    that of the transaction before does.
    """

    producer: Producer
    position: int
    fresh: bool
    queue: LaneQueue
    landed: int | None = None
    committed: int = -1

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Note where a record lies."""
        self.landed = message.offset() if error is None else None


@dataclass(frozen=True)
class AuditPorts:
    """What the emitter needs from outside: producers, what broker and Postgres say now, time and chance.

    Of a partition, `last_event_id` is the tail of the audit topic and `ledger_end` the end of the ledger's log; `audited` is
    a lane's in Postgres; `check_topics` raises SetupError if a topic is not the one it was.
    """

    open_producer: Callable[[str], Producer]
    last_event_id: Callable[[int], int | None]
    ledger_end: Callable[[int], int]
    audited: Callable[[int], int]
    check_topics: Callable[[], None]
    for_each: Callable[[Callable[[LaneQueue], object], list[LaneQueue]], None]
    let_go: Callable[[Producer], None]
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random


class _Retry(NamedTuple):
    """When a lane's audit begins again, and how long the pause before it was."""

    at: float
    pause_s: float


_FIRST_RETRY: Final = _Retry(0.0, 0.1)


class AuditEmitter:
    """Emits queued outcomes, each lane's in one transaction at a time."""

    def __init__(self, queue: AuditQueue, topic: str, first_lane: int, ports: AuditPorts, log: Any) -> None:
        self._queue = queue
        self._topic = topic
        self._first_lane = first_lane
        self._ports = ports
        self._log = log
        self._outputs: dict[int, _Output] = {}
        self._retries: dict[int, _Retry] = {}  # by lane
        self._turns: dict[int, float] = {}  # lane: when its last turn was

    def step(self, wait_s: float = WAIT_S, most: int | None = None) -> int:
        """Emit what waits, or wait for something; return how many lanes had something that could be emitted.

        `most`: emit of so many lanes only, those whose last turn is the longest ago.
        """
        queues = self._queue.waiting(wait_s)
        for lane in [lane for lane, output in self._outputs.items() if not self._queue.holds(output.queue)]:
            self._close_output(lane)
        now = self._ports.clock()
        # Those of quiet lanes too, once: opened at its first outcome, a producer would hold up those of all lanes meanwhile.
        closed = [queue for queue in self._queue.lanes() if queue.lane not in self._outputs]
        fresh = [queue for queue in closed if queue.lane not in self._retries]
        tried = [queue for queue in closed if queue.lane in self._retries and queue.entries]
        self._open_all([*fresh, *(queue for queue in tried if self._retries[queue.lane].at <= now)])
        due = [queue for queue in queues if queue.lane in self._outputs]
        turn = sorted(due, key=lambda queue: self._turns.get(queue.lane, 0.0))[:most]
        self._turns.update((queue.lane, now) for queue in turn)
        begun = [(queue, position) for queue in turn if (position := self._guarded(queue, self._begin)) is not None]
        for queue, position in begun:
            self._guarded(queue, partial(self._commit, position))
        return len(due)

    def close(self) -> None:
        """Let every producer go."""
        for lane in list(self._outputs):
            self._close_output(lane)

    def _open_all(self, queues: list[LaneQueue]) -> None:
        """Open producers at the same time: each waits half a second for its coordinator, and a worker has many."""
        if queues:
            self._ports.for_each(lambda queue: self._guarded(queue, self._init), queues)
            for queue in queues:
                if queue.lane in self._outputs:
                    self._guarded(queue, self._find_position)

    def _close_output(self, lane: int) -> None:
        output = self._outputs.pop(lane, None)
        if output is not None:
            self._ports.let_go(output.producer)

    def _guarded(self, queue: LaneQueue, step: Callable[[LaneQueue], int | None]) -> int | None:
        """Run a step of a lane; after any error its producer is closed, and the step begins again with a new one."""
        try:
            return step(queue)
        except (CoreTablesError, KafkaException, BufferError) as error:
            self._failed(queue, error)
        except Exception as error:
            # Fenced while it serves delivery reports, the client raises, and Python complains of the report that comes next.
            if isinstance(error, SystemError) and isinstance(error.__cause__, KafkaException):
                self._failed(queue, error.__cause__)
            else:  # a defect of ours: this lane's audit stops, with its cause, and the others go on
                self._log.exception("audit_failed", lane=queue.lane)
                self._failed(queue, defect(f"lane {queue.lane}: the audit failed", error))
        return None

    def _failed(self, queue: LaneQueue, error: CoreTablesError | KafkaException | BufferError) -> None:
        """Close a lane's producer, and begin again after a pause if that can help; else stop the lane."""
        self._close_output(queue.lane)
        cause = translate_running(error) if isinstance(error, KafkaException) else error
        if isinstance(cause, CoreTablesError) and not cause.retryable:
            self._queue.stop(queue, cause)
            return
        pause = min(MAX_BACKOFF_S, 2 * self._retries.get(queue.lane, _FIRST_RETRY).pause_s)
        # Two workers that both believe they own the lane fence each other; chance lets one of them finish.
        self._retries[queue.lane] = _Retry(self._ports.clock() + pause * (0.5 + self._ports.chance() / 2), pause)
        self._log.warning("audit_reopens", lane=queue.lane, cause=str(cause), pause_s=round(pause, 2))

    def _begin(self, queue: LaneQueue) -> int | None:
        """Begin a transaction with what lies at or above the position; return the position after it."""
        output = self._outputs.get(queue.lane)
        if output is None:
            return None
        self._queue.confirm(queue, output.position)
        if queue.start > output.position:
            if output.fresh:
                raise LaneStoppedError(
                    f"lane {queue.lane}: the audit topic ends at offset {output.position}, but Postgres holds that all below "
                    f"{queue.start} is in it; audit records were lost: {RESTORE_TOPIC}"
                )
            raise UnavailableError("kafka", "the tail of the audit topic was stale")
        output.fresh = False
        records = self._queue.first(queue, PER_TRANSACTION)
        if not records:
            return None
        output.producer.begin_transaction()
        output.landed = None
        partition = queue.lane - self._first_lane
        for record in records[:-1]:
            self._produce(output.producer, partition, record)
        self._produce(output.producer, partition, records[-1], output.delivered)
        return offset_of(records[-1].event_id) + 1

    def _produce(self, producer: Producer, partition: int, record: AuditRecord, delivered: Any = None) -> None:
        headers: Any = None if record.traceparent is None else [("traceparent", record.traceparent)]
        producer.produce(
            self._topic, record.value, record.key, partition=partition, headers=headers, on_delivery=delivered
        )

    def _commit(self, position: int, queue: LaneQueue) -> int | None:
        output = self._outputs[queue.lane]
        output.producer.flush(REQUEST_TIMEOUT_S)  # as the commit would
        if output.landed is not None:
            self._check_rises(output, output.landed)
        output.producer.commit_transaction(REQUEST_TIMEOUT_S)
        output.position = position
        self._queue.confirm(queue, position)
        self._retries.pop(queue.lane, None)
        return position

    def _check_rises(self, output: _Output, landed: int) -> None:
        """A record that lies no higher than those before it lies in another topic, made anew under our eyes: nobody may see it."""
        if landed <= output.committed:
            output.producer.abort_transaction(REQUEST_TIMEOUT_S)
            self._ports.check_topics()
            raise UnavailableError("kafka", "the audit topic lost its end")
        output.committed = landed

    def _init(self, queue: LaneQueue) -> None:
        """Open a lane's producer, which fences whoever had its transactional.id before."""
        producer = self._ports.open_producer(f"{self._topic}.{queue.lane - self._first_lane}")
        output = _Output(producer, 0, True, queue)
        self._outputs[queue.lane] = output
        producer.init_transactions(REQUEST_TIMEOUT_S)

    def _find_position(self, queue: LaneQueue) -> None:
        """Read the tail, after `init_transactions`: before, it could miss what the predecessor was committing."""
        partition = queue.lane - self._first_lane
        tail = self._ports.last_event_id(partition)
        if tail is None:
            position = self._audited_now(queue)
        else:
            position = offset_of(tail) + 1
            if lane_of(tail) != queue.lane or position < queue.audited:
                raise LaneStoppedError(
                    f"lane {queue.lane}: the audit topic ends at record {tail}, below the watermark {queue.audited} that "
                    f"Postgres holds; it lost records or is another topic: {RESTORE_TOPIC}"
                )
            if position > (end := self._ports.ledger_end(partition)):
                raise LaneStoppedError(
                    f"lane {queue.lane}: the audit topic ends at offset {position}, above the end {end} of the ledger's log; "
                    f"the ledger lost records: {RESTORE_TOPIC}"
                )
        self._outputs[queue.lane].position = position

    def _audited_now(self, queue: LaneQueue) -> int:
        """The position in an audit partition that holds nothing: the audited watermark, which others may have raised meanwhile."""
        audited = max(queue.audited, self._ports.audited(queue.lane))
        if audited > 0:
            self._ports.check_topics()  # emptied, or another topic?
        return audited


class AuditThread:
    """Runs an emitter in a thread of its own."""

    def __init__(self, queue: AuditQueue, emitter: AuditEmitter) -> None:
        self._queue = queue
        self._emitter = emitter
        self._closing = threading.Event()
        self._loop = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._loop.start()

    def close(self, *, flush: bool) -> None:
        """Emit what is queued for at most 5 s, if asked to, and end the thread."""
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        while flush and self._loop.is_alive() and not self._queue.empty() and time.monotonic() < deadline:
            time.sleep(0.01)
        self._closing.set()
        self._loop.join(REQUEST_TIMEOUT_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            # Nobody waits for an outcome here, and a transaction costs the same for one as for many: let some gather. The lanes
            # take turns, since the transactions of all, one after the other, held appends and folds up by 20 ms.
            many = self._queue.size() >= PER_TRANSACTION
            lanes = self._emitter.step(most=None if many else 1)
            if not many or not lanes:
                self._closing.wait(min(MAX_PAUSE_S, GATHER_S / max(1, lanes)))
        self._emitter.close()


def in_threads(run: Callable[[LaneQueue], object], queues: list[LaneQueue]) -> None:
    """Run something for all lanes at the same time, and wait for the last."""
    with ThreadPoolExecutor(len(queues), thread_name_prefix="audit-open") as pool:
        list(pool.map(run, queues))


def let_go_aside(producer: Producer) -> None:
    """Let a producer go in a thread: ending one that was fenced may take as long as its transaction."""
    threading.Thread(target=_purge, args=(producer,), daemon=True).start()


def _purge(producer: Producer) -> None:
    """Drop what the producer still holds; it ends with its last reference, which is the thread's."""
    with contextlib.suppress(KafkaException, RuntimeError):
        producer.purge()
