"""Looks into topics aside from the fold: where a lane's audit stands, and whether the ledger has a hole."""

import time
from typing import Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from core_tables.consumer.kafka import REQUEST_TIMEOUT_S, translate
from core_tables.schemas.audit import decode_audit
from core_tables.schemas.reasons import UnavailableError

TAIL_STEP: Final = 50


class AuditTail:
    """Reads the last committed record of an audit partition. One thread."""

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    def last_event_id(self, partition: int) -> int | None:
        """The event_id of the last committed audit record of a partition, or None."""
        target = TopicPartition(self._topic, partition)
        low, high = self._consumer.get_watermark_offsets(target, timeout=REQUEST_TIMEOUT_S, cached=False)
        start, step = high, TAIL_STEP
        while start > low:
            start, step = max(low, start - step), step * 8
            last = self._last_from(partition, start, high)
            if last is not None:
                return last
        return None

    def _last_from(self, partition: int, start: int, high: int) -> int | None:
        self._consumer.assign([TopicPartition(self._topic, partition, start)])
        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        last: int | None = None
        while time.monotonic() < deadline:
            for message in self._consumer.consume(500, 0.1):
                error = message.error()
                value = message.value()
                if error is None and value is not None:
                    last = decode_audit(value).event_id
                elif error is not None and error.code() == KafkaError._PARTITION_EOF:
                    return last
                elif error is not None:
                    raise translate(error)
            if self._consumer.position([TopicPartition(self._topic, partition)])[0].offset >= high:
                return last
        raise UnavailableError("kafka", f"the end of audit partition {partition} could not be read in time")


class LogProbe:
    """Finds the first record of the ledger from an offset on, with nothing fetched before. One thread."""

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    def first_offset(self, partition: int, start: int) -> int | None:
        """The offset of the first record at or after `start`; None if there is none. Raises UnavailableError."""
        self._consumer.assign([TopicPartition(self._topic, partition, start)])
        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        while time.monotonic() < deadline:
            message = self._consumer.poll(0.1)
            error = message.error() if message is not None else None
            if message is not None and error is None:
                return message.offset()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                return None
            if error is not None:
                raise translate(error)
        raise UnavailableError("kafka", f"partition {partition} of {self._topic} could not be read in time")
