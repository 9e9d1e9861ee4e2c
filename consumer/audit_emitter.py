"""Writes queued outcomes to the audit topic: one transactional producer per lane, and the topic says how far it is.

Step 5 of the worker's rule (worker.py). A thread runs it (audit_thread.py).
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from core_tables.consumer.audit_output import AuditOutput, Landing
from core_tables.consumer.audit_queue import AuditQueue, LaneQueue
from core_tables.consumer.audit_record import AuditRecord
from core_tables.consumer.checks import defect
from core_tables.consumer.counts import AuditReopenCause, WorkerCounts
from core_tables.consumer.lane import Trouble
from core_tables.kafka.clients import REQUEST_TIMEOUT_S
from core_tables.kafka.errors import RESTORE_TOPIC, translate_written
from core_tables.schemas.identity import lane_of, offset_of
from core_tables.schemas.reasons import CoreTablesError, LaneStoppedError, UnavailableError

PER_TRANSACTION: Final = 2000
WAIT_S: Final = 0.1
MAX_RETRY_PAUSE_S: Final = 5.0
_FENCED: Final = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)


@dataclass(frozen=True)
class AuditPorts:
    """What the emitter needs from outside: producers, answers of the broker and of Postgres, time and chance.

    Attributes:
        open_producer: opens a producer with a transactional.id.
        last_event_id: the id of the last committed record of an audit partition, if there is one.
        ledger_end: the end of a partition of the ledger topic.
        audited: the audited watermark of a lane, as it is in Postgres now.
        check_topics: raises SetupError if a topic is no longer the one that the lanes were made for.
        for_each: runs a function for each of several lanes, possibly at the same time, and waits for all of them.
        release: closes a producer without waiting for it.
        counts: the worker's, for how often producers were opened again.
        clock: monotonic seconds.
        chance: a random number from 0 to 1.
    """

    open_producer: Callable[[str], Producer]
    last_event_id: Callable[[int], int | None]
    ledger_end: Callable[[int], int]
    audited: Callable[[int], int]
    check_topics: Callable[[], None]
    for_each: Callable[[Callable[[LaneQueue], object], list[LaneQueue]], None]
    release: Callable[[Producer], None]
    counts: WorkerCounts = field(default_factory=WorkerCounts)
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
        self._outputs: dict[int, AuditOutput] = {}
        self._retries: dict[int, _Retry] = {}  # by lane
        self._turns: dict[int, float] = {}  # lane: when its last turn was

    def step(self, wait_s: float = WAIT_S, most: int | None = None) -> int:
        """Emit what is queued, or wait for something; return how many lanes had something that could be emitted.

        With `most`, emit of at most that many lanes: those that have waited longest for a turn.
        """
        queues = self._queue.waiting(wait_s)
        for lane in [lane for lane, output in self._outputs.items() if not self._queue.holds(output.queue)]:
            self._close_output(lane)
        now = self._ports.clock()
        # Open quiet lanes too, once: if a producer is opened only when its lane has an outcome, all other lanes wait for it.
        closed = [queue for queue in self._queue.lanes() if queue.lane not in self._outputs]
        fresh = [queue for queue in closed if queue.lane not in self._retries]
        tried = [queue for queue in closed if queue.lane in self._retries and queue.entries]
        self._open_all([*fresh, *(queue for queue in tried if self._retries[queue.lane].at <= now)])
        due = [queue for queue in queues if queue.lane in self._outputs]
        turn = sorted(due, key=lambda queue: self._turns.get(queue.lane, 0.0))[:most]
        self._turns.update((queue.lane, now) for queue in turn)
        begun = [(queue, end) for queue in turn if (end := self._guarded(queue, self._begin)) is not None]
        for queue, end in begun:
            self._guarded(queue, partial(self._commit, end))
        self._queue.sign()
        return len(due)

    def close(self) -> None:
        """Release every producer."""
        for lane in list(self._outputs):
            self._close_output(lane)

    def _open_all(self, queues: list[LaneQueue]) -> None:
        """Open producers at the same time: each waits half a second for its coordinator, and a worker has many."""
        if queues:
            try:
                self._ports.for_each(lambda queue: self._guarded(queue, self._init), queues)
            except RuntimeError as error:  # the machine has no thread left
                for queue in queues:
                    self._failed(queue, error)
            for queue in queues:
                if queue.lane in self._outputs:
                    self._guarded(queue, self._find_offset)

    def _close_output(self, lane: int) -> None:
        output = self._outputs.pop(lane, None)
        if output is not None:
            self._ports.release(output.producer)

    def _guarded(self, queue: LaneQueue, step: Callable[[LaneQueue], int | None]) -> int | None:
        """Run a step of a lane. After any error, close the lane's producer and start again with a new one."""
        self._queue.sign()
        try:
            return step(queue)
        except Exception as error:
            cause = self._cause(queue, error)
            error.__traceback__ = None  # its frames hold the producer, which is released here and closed elsewhere
            self._failed(queue, cause)
        return None

    def _cause(self, queue: LaneQueue, error: Exception) -> Exception:
        """What went wrong in a step. A defect of ours is logged and stops the audit of its lane; the others continue."""
        if isinstance(error, CoreTablesError | KafkaException | BufferError):
            return error
        # If the producer is fenced while it serves delivery reports, Python raises this, with the client's error as its cause.
        if isinstance(error, SystemError) and isinstance(error.__cause__, KafkaException):
            return error.__cause__
        self._log.exception(
            "audit_failed", lane=queue.lane, topic=self._topic, partition=self._partition(queue), offset=queue.start
        )
        return defect(f"lane {queue.lane}: the audit failed", error)

    def _failed(self, queue: LaneQueue, error: Exception) -> None:
        """Close a lane's producer. Start again after a pause if that can help, otherwise stop the lane."""
        self._close_output(queue.lane)
        cause = error
        if isinstance(error, KafkaException):
            cause = translate_written(self._topic, error, self._needs(queue))
        if isinstance(cause, CoreTablesError) and not cause.retryable:
            self._queue.stop(queue, cause)
            return
        self._ports.counts.audit_reopens[_reopen_cause(error)] += 1
        queue.trouble = Trouble(str(cause), self._ports.clock() if queue.trouble is None else queue.trouble.since)
        pause = min(MAX_RETRY_PAUSE_S, 2 * self._retries.get(queue.lane, _FIRST_RETRY).pause_s)
        # Two workers that both believe they own the lane fence each other; a random pause lets one of them finish.
        self._retries[queue.lane] = _Retry(self._ports.clock() + pause * (0.5 + self._ports.chance() / 2), pause)
        self._log.warning(
            "audit_reopens",
            lane=queue.lane,
            topic=self._topic,
            partition=self._partition(queue),
            offset=queue.start,
            cause=str(cause),
            pause_s=round(pause, 2),
        )

    def _needs(self, queue: LaneQueue) -> str:
        """The rights without which a producer's call is denied."""
        return f"WRITE on the topic {self._topic} and on the transactional id {self._transactional_id(queue)}"

    def _transactional_id(self, queue: LaneQueue) -> str:
        return f"{self._topic}.{self._partition(queue)}"

    def _partition(self, queue: LaneQueue) -> int:
        """The partition of a lane, in the ledger topic as in the audit topic."""
        return queue.lane - self._first_lane

    def _begin(self, queue: LaneQueue) -> int | None:
        """Begin a transaction with what is queued from the next offset on; return the offset after it."""
        output = self._outputs.get(queue.lane)
        if output is None:
            return None
        self._queue.confirm(queue, output.next_offset)
        if queue.start > output.next_offset:
            if output.fresh:
                raise LaneStoppedError(
                    f"lane {queue.lane}: the audit topic ends at offset {output.next_offset}, but Postgres holds that all below "
                    f"{queue.start} is in it; audit records were lost: {RESTORE_TOPIC}",
                    "audit_lost",
                )
            raise UnavailableError("kafka", "the tail of the audit topic was stale")
        output.fresh = False
        records = self._queue.first(queue, PER_TRANSACTION)
        if not records:
            return None
        output.producer.begin_transaction()
        output.landing = Landing()
        partition = self._partition(queue)
        for record in records[:-1]:
            self._produce(output.producer, partition, record)
        self._produce(output.producer, partition, records[-1], output.landing.delivered)
        return offset_of(records[-1].event_id) + 1

    def _produce(self, producer: Producer, partition: int, record: AuditRecord, delivered: Any = None) -> None:
        headers: Any = None if record.traceparent is None else [("traceparent", record.traceparent)]
        producer.produce(
            self._topic, record.value, record.key, partition=partition, headers=headers, on_delivery=delivered
        )

    def _commit(self, end: int, queue: LaneQueue) -> int | None:
        output = self._outputs[queue.lane]
        # As the commit would. What it left would be delivered by the commit, unseen by the check.
        if output.producer.flush(REQUEST_TIMEOUT_S):
            raise UnavailableError("kafka", "the audit topic did not take the records in time")
        if output.landing.offset is not None:
            self._check_rises(output, output.landing.offset)
        output.producer.commit_transaction(REQUEST_TIMEOUT_S)
        output.next_offset = end
        self._queue.confirm(queue, end)
        self._retries.pop(queue.lane, None)
        queue.trouble = None
        return end

    def _check_rises(self, output: AuditOutput, landed: int) -> None:
        """Abort if a record lies no higher than those before it: the topic was recreated, and nobody may see the record."""
        if landed <= output.committed:
            output.producer.abort_transaction(REQUEST_TIMEOUT_S)
            self._ports.check_topics()
            raise UnavailableError("kafka", "the audit topic lost its end")
        output.committed = landed

    def _init(self, queue: LaneQueue) -> None:
        """Open a lane's producer, which fences the previous holder of its transactional.id."""
        producer = self._ports.open_producer(self._transactional_id(queue))
        output = AuditOutput(producer, 0, True, queue)
        self._outputs[queue.lane] = output
        producer.init_transactions(REQUEST_TIMEOUT_S)

    def _find_offset(self, queue: LaneQueue) -> None:
        """Read the tail, after `init_transactions`: earlier, it might miss what the predecessor was committing."""
        partition = self._partition(queue)
        tail = self._ports.last_event_id(partition)
        if tail is None:
            next_offset = self._audited_now(queue)
        else:
            next_offset = offset_of(tail) + 1
            if lane_of(tail) != queue.lane or next_offset < queue.audited:
                raise LaneStoppedError(
                    f"lane {queue.lane}: the audit topic ends at record {tail}, below the watermark {queue.audited} that "
                    f"Postgres holds; it lost records or is another topic: {RESTORE_TOPIC}",
                    "audit_lost",
                )
            if next_offset > (end := self._ports.ledger_end(partition)):
                raise LaneStoppedError(
                    f"lane {queue.lane}: the audit topic ends at offset {next_offset}, above the end {end} of the ledger's log; "
                    f"the ledger lost records: {RESTORE_TOPIC}",
                    "records_lost",
                )
        self._outputs[queue.lane].next_offset = next_offset

    def _audited_now(self, queue: LaneQueue) -> int:
        """Where to start in an audit partition that holds nothing: the watermark, which others may have raised meanwhile."""
        audited = max(queue.audited, self._ports.audited(queue.lane))
        if audited > 0:
            self._ports.check_topics()  # was it emptied, or is it another topic?
        return audited


def _reopen_cause(error: Exception) -> AuditReopenCause:
    """What sort of error a lane's producer is replaced for."""
    match error:
        case UnavailableError(dependency="postgres"):
            return "postgres"
        case KafkaException(args=[KafkaError() as cause, *_]) if cause.code() in _FENCED:
            return "fenced"
        case RuntimeError():
            return "machine"
        case _:
            return "kafka"
