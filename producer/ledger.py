"""Append and cancel (contract, section 1): validate, encode, produce, and await what becomes of it.

    with Ledger.connect() as ledger:
        receipt = ledger.append(event)
        receipt.outcome(timeout=5)

Many events are appended at once by not waiting for each: `append` returns as soon as the event is queued, and
`ledger.outcomes(receipts, timeout=5)` awaits them together.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaError, Message, Producer

from core_tables.kafka.clients import DELIVERY_TIMEOUT_S, delivery_timeout_s, ledger_producer
from core_tables.kafka.log import PartitionLog
from core_tables.producer.act import KnownOfOrder, NowNs
from core_tables.producer.connected_reads import connect_reads, connect_scheduler
from core_tables.producer.deliveries import Delivered, Deliveries
from core_tables.producer.due_work import DueWork, everything_due
from core_tables.producer.encoding import encode_checked
from core_tables.producer.ledger_settings import LedgerSettings
from core_tables.producer.log_end import wait_folded_to_end
from core_tables.producer.order_memory import OrderMemory
from core_tables.producer.receipt import Receipt, delivery_error, no_database
from core_tables.producer.record_wait import RecordWait
from core_tables.producer.send_trace import trace_of
from core_tables.producer.waiter import OutcomeWaiter
from core_tables.producer.work_order_acts import WorkOrderEvents
from core_tables.producer.work_order_handle import WorkOrderHandle
from core_tables.projection.postgres.read_types import CurrentRecord
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import partition_of
from core_tables.schemas.outcomes import Outcome
from core_tables.schemas.reasons import (
    CANCEL_INVALID_STATE,
    ClosedError,
    ContractError,
    UnavailableError,
    Violation,
)
from core_tables.schemas.vocabulary import WorkOrderStatus

PARTITION_UA: Final = -1  # the client's partitioner chooses
_SERVE_S: Final = 0.05
_NOTHING_TO_CANCEL: Final = Violation(CANCEL_INVALID_STATE, "work_order_id", "there is no such work order to cancel")


class Ledger:
    """Appends events and reads what became of them. Thread-safe; a forked process opens connections of its own."""

    def __init__(
        self,
        settings: LedgerSettings,
        open_producer: Callable[[], Producer],
        waiter: OutcomeWaiter | None = None,
        clock: NowNs = time.time_ns,
    ) -> None:
        self._settings = settings
        self._waiter = waiter
        self.clock = clock
        self._first_lane: int | None = None
        self._partitions = 0
        if waiter is not None:
            self._first_lane, self._partitions = waiter.lanes_of(settings.topic)
        self._deliveries = Deliveries(open_producer, delivery_timeout_s(settings.kafka_settings))
        self._scheduler: Reads | None = None
        self._closed = False

    @classmethod
    def connect(
        cls,
        settings: LedgerSettings | None = None,
        log: logging.Logger | None = None,
        *,
        clock: NowNs = time.time_ns,
    ) -> "Ledger":
        """Open the connections of a ledger; log lines of the Kafka client itself go to `log`.

        `clock` gives the `created_at` of acts, in nanoseconds since 1970.

        Without settings it has those of `LedgerSettings.from_environment`. `with Ledger.connect() as ledger:` closes it.

        Raises UnavailableError if Postgres does not answer or there is no token for Kafka, and SetupError if the database does
        not know the topic, the Kafka client rejects a setting, or an address is missing in the environment.
        """
        settings = settings or LedgerSettings.from_environment()
        open_producer = partial(ledger_producer, settings.kafka_settings, log or logging.getLogger(__name__))
        dsns, pooled = settings.readers(), settings.pooled
        waiter = None
        if dsns:
            reads = connect_reads(
                dsns, "core-tables outcomes", pooled=pooled, topic=settings.topic, redis_url=settings.redis_url
            )
            waiter = OutcomeWaiter.connect([dsn for _, dsn in dsns], reads, pooled=pooled)
        return cls(settings, open_producer, waiter, clock)

    def append(self, event: LedgerEvent, *, traceparent: str | None = None) -> Receipt:
        """Queue an event for the ledger. Before anything is sent, raises ContractError if the event breaks the contract.

        `traceparent` is the record's header, by which its audit event belongs to a trace; unless it is given, it is that of
        the current span of OpenTelemetry, if there is one.

        While the client's queue is full it waits, and raises UnavailableError after DELIVERY_TIMEOUT_S: nothing was sent then.
        """
        deadline = time.monotonic() + DELIVERY_TIMEOUT_S
        while (receipt := self.try_append(event, traceparent=traceparent)) is None:
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    "kafka",
                    "the client's queue is full and Kafka takes nothing from it; nothing of this event was sent",
                )
            self._deliveries.serve(0.1)
        return receipt

    def try_append(self, event: LedgerEvent, *, traceparent: str | None = None) -> Receipt | None:
        """The same without waiting: None if the client's queue is full, and then nothing is queued."""
        value = encode_checked(event)
        trace = trace_of(traceparent, self._settings.topic)
        receipt = Receipt(self, event)
        key = event.tenant_id.encode()
        # The registered count decides: in a topic that was given more partitions, the new ones belong to no lane.
        partition = partition_of(key, self._partitions) if self._partitions else PARTITION_UA
        topic, delivery = self._settings.topic, self._delivery(receipt)
        if not self._deliveries.send(receipt, topic, value, key, partition, trace.headers, delivery):
            return None
        trace.follow(receipt)
        return receipt

    def cancel(
        self,
        tenant_id: str,
        work_order_id: str,
        reason_code: int,
        idempotency_key: str,
        now: int | None = None,
        *,
        turn_id: int | None = None,
        timeout: float = 5.0,
    ) -> Receipt:
        """Append WORK_ORDER_CANCELED with the current record's correlation; `now` is in nanoseconds since 1970.

        Without a turn_id it carries that of the record.

        A work order without a record may have been created a moment ago, so wait up to `timeout` seconds until everything that
        the ledger holds now is folded. Raises ContractError with OS_WORK_ORDER_CANCEL_INVALID_STATE, before anything is sent,
        if there is still none.
        """
        order = self.current(tenant_id, work_order_id, timeout)
        if order is None:
            raise ContractError(_NOTHING_TO_CANCEL)
        events = WorkOrderEvents(
            tenant_id,
            work_order_id,
            correlation_id=order.correlation_id,
            turn_id=order.turn_id if turn_id is None else turn_id,
            reason_code=reason_code,
            clock=self.clock if now is None else lambda: now,
        )
        return self.append(events.cancel(idempotency_key=idempotency_key))

    def work_order(
        self,
        tenant_id: str,
        work_order_id: str,
        *,
        correlation_id: int | None = None,
        turn_id: int | None = None,
        status: WorkOrderStatus | None = None,
        reason_code: int | None = None,
    ) -> WorkOrderHandle:
        """A work order to act on, new or not: `ledger.work_order("acme", "order-1").create(requester_user_id="ada", …)`.

        What is not given and every event must say is read once, at the first act that needs it. `reason_code` is that of all
        acts which give none.
        """
        known = KnownOfOrder(correlation_id, turn_id, status)
        return WorkOrderHandle(self, OrderMemory(tenant_id, work_order_id, known, reason_code, self.clock))

    def current(self, tenant_id: str, work_order_id: str, timeout: float = 5.0) -> CurrentRecord | None:
        """The current record, or None if there is none, also once all that the ledger holds now is folded.

        A work order that exists is answered at once. Raises UnavailableError if it is not known within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        reads = self.reads().until(deadline)
        order = reads.current(tenant_id, work_order_id)
        if order is None:
            self._wait_folded(partition_of(tenant_id.encode(), self._partitions), deadline)
            order = reads.current(tenant_id, work_order_id)
        return order

    def wait_until(
        self, tenant_id: str, work_order_id: str, holds: Callable[[CurrentRecord], bool], timeout: float
    ) -> CurrentRecord | None:
        """Wait until something holds of a current record, and return it; None if that takes more than `timeout` seconds.

        It is woken whenever the tenant's lane is folded further. Raises UnavailableError if Postgres does not answer at the
        beginning, or not at the deadline.
        """
        wait = RecordWait(self.reads(), tenant_id, work_order_id, holds, time.monotonic() + timeout)
        while not wait.look():
            with suppress(UnavailableError):  # it may answer again before the deadline
                wait.folded(self.outcome_waiter().wait_folded(wait.lane, wait.applied + 1, wait.next_look))
        return wait.found

    def wait_for_status(
        self, tenant_id: str, work_order_id: str, statuses: Collection[WorkOrderStatus], timeout: float
    ) -> CurrentRecord | None:
        """Wait until a work order has one of some statuses, as `wait_until` does."""
        return self.wait_until(tenant_id, work_order_id, lambda record: record.work_order_status in statuses, timeout)

    def due(self, now: int) -> Iterator[DueWork]:
        """Everything that is due at `now` (ns), tenant by tenant; each page is read when it is reached.

        Raises SetupError unless the settings have a `scheduler_dsn`, of a login that may see which tenants have something due.
        """
        if self._scheduler is None:
            self._scheduler = connect_scheduler(self._settings.schedulers(), pooled=self._settings.pooled)
        return everything_due(self._scheduler, self.reads(), now)

    def reads(self) -> Reads:
        """The reads; threads may share them. Raises SetupError if the ledger has no `postgres_dsn`."""
        return self.outcome_waiter().reads

    def outcomes(self, receipts: Sequence[Receipt], timeout: float) -> list[Outcome | None]:
        """The outcomes of many appends, in the order of their receipts; each as `Receipt.outcome` returns it."""
        deadline = time.monotonic() + timeout
        by_tenant: dict[str, list[int]] = {}
        for receipt in receipts:
            event_id = receipt.event_id(max(0.0, deadline - time.monotonic()))
            by_tenant.setdefault(receipt.event.tenant_id, []).append(event_id)
        found = self.outcome_waiter().wait(by_tenant, deadline)
        return [receipt.noted(found.get(receipt.event_id())) for receipt in receipts]

    def wait_delivered(self, receipt: Receipt, deadline: float) -> bool:
        """Serve delivery reports until that of a receipt has come, or until `deadline` (monotonic seconds).

        False if it cannot come any more, since an interrupt took it.
        """
        return self._deliveries.wait(receipt, deadline)

    def flush(self, timeout: float = DELIVERY_TIMEOUT_S + 5) -> int:
        """Wait until the broker has answered for all appends; return how many are still unanswered after `timeout` seconds."""
        return self._deliveries.flush(timeout)

    def close(self) -> None:
        """Flush, then close the connections."""
        self.flush()
        self._closed = True
        self._deliveries.close()
        for part in (self._waiter, self._scheduler):
            if part is not None:
                part.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def outcome_waiter(self) -> OutcomeWaiter:
        """What waits for outcomes. Raises ClosedError, or SetupError if the ledger has no database."""
        if self._closed:
            raise ClosedError("this ledger is closed; connect a new one")
        if self._waiter is None:
            raise no_database()
        return self._waiter

    def _wait_folded(self, partition: int, deadline: float) -> None:
        """Wait until a partition is folded up to the current end of its log."""
        log = PartitionLog(self._settings.kafka_settings, self._settings.topic, partition)
        try:
            wait_folded_to_end(self.outcome_waiter(), (self._first_lane or 0) + partition, log, deadline)
        finally:
            log.close()

    def _delivery(self, receipt: Receipt) -> Delivered:
        def delivered(error: KafkaError | None, message: Message) -> None:
            self._deliveries.answered(receipt)
            partition, offset = message.partition(), message.offset()
            if error is None and partition is not None and offset is not None:
                receipt.settle((partition, offset), None, self._first_lane)
            else:
                receipt.settle(None, delivery_error(receipt.event, error, self._settings.topic))

        return delivered
