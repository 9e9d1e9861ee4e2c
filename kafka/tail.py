"""Looks into topics aside from the fold: where a lane's audit stands, and whether the ledger has a gap."""

import time
from typing import Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from core_tables.kafka.clients import REQUEST_TIMEOUT_S
from core_tables.kafka.errors import translate_running
from core_tables.schemas.audit import decode_audit
from core_tables.schemas.reasons import UnavailableError

TAIL_STEP: Final = 50
LOOK_AHEAD: Final = 2000


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
                    raise translate_running(error)
            if self._consumer.position([TopicPartition(self._topic, partition)])[0].offset >= high:
                return last
        raise UnavailableError(
            "kafka", f"the end of audit partition {partition} could not be read in time; see that the broker runs"
        )


class LogProbe:
    """Finds the gaps of the ledger's log, with nothing fetched before. One thread."""

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    def gaps(self, partition: int, start: int) -> dict[int, int]:
        """The gaps from `start` on: by the offset that is missing, the next one that exists.

        Looks at as many records as there are at hand, so that a log with a gap after each is not asked after each. Raises
        UnavailableError, SetupError or LaneStoppedError.
        """
        self._consumer.assign([TopicPartition(self._topic, partition, start)])
        found: dict[int, int] = {}
        expected, deadline = start, time.monotonic() + REQUEST_TIMEOUT_S
        while expected == start and time.monotonic() < deadline:
            for message in self._consumer.consume(1, 0.1) + self._consumer.consume(LOOK_AHEAD, 0):
                error, offset = message.error(), message.offset()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    return found
                if error is not None:
                    raise translate_running(error)
                if offset is not None and offset > expected:
                    found[expected] = offset
                expected = (offset or 0) + 1
        if expected == start:
            raise UnavailableError(
                "kafka", f"partition {partition} of {self._topic} could not be read in time; see that the broker runs"
            )
        return found
