"""The log of a partition: its bounds, and whether it holds a record."""

import time
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from core_tables.kafka.clients import REQUEST_TIMEOUT_S
from core_tables.kafka.errors import translate_running

ANSWER_TIMEOUT_S: Final = 5.0
LOOK_EVERY_S: Final = 0.25


class PartitionLog:
    """Looks at one partition's log with a consumer of its own, which joins no group. One thread."""

    def __init__(self, config: Mapping[str, Any], topic: str, partition: int) -> None:
        self._config = dict(config)
        self._topic, self._partition = topic, partition
        self._consumer: Consumer | None = None

    def end(self) -> int:
        """The offset below which everything is committed or aborted. Raises KafkaException.

        What a transaction holds open lies above it: no append that a program could know of.
        """
        asked, newest = TopicPartition(self._topic, self._partition), OffsetSpec.latest()  # type: ignore[no-untyped-call]
        admin = AdminClient(self._config)  # kept: no answer ever comes to a client that was collected
        found = admin.list_offsets(
            {asked: newest}, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ANSWER_TIMEOUT_S
        )
        return int(found[asked].result().offset)

    def holds_record(self, start: int, end: int, deadline: float) -> bool:
        """Whether a record lies at or above `start` and below `end`; yes, where it cannot be told: not by `deadline`
        (monotonic), or not by whoever may write the topic and not read it.
        """
        consumer = self._reader()
        consumer.assign([TopicPartition(self._topic, self._partition, start)])
        while (left := deadline - time.monotonic()) > 0:
            message = consumer.poll(min(left, LOOK_EVERY_S))
            if message is None:
                continue
            error, offset = message.error(), message.offset()
            if error is None:
                return offset is None or offset < end
            return error.code() != KafkaError._PARTITION_EOF
        return True

    def close(self) -> None:
        """Close the consumer."""
        if self._consumer is not None:
            self._consumer.close()

    def _reader(self) -> Consumer:
        """Opened when it is needed first: where nothing is amiss with the log's end, it never is."""
        if self._consumer is None:
            few = {"fetch.message.max.bytes": 65_536, "queued.max.messages.kbytes": 256, "fetch.queue.backoff.ms": 20}
            told = {"group.id": "core-tables.log-end", "enable.auto.commit": False, "enable.partition.eof": True}
            reading = {"isolation.level": "read_committed", "fetch.wait.max.ms": 10, "auto.offset.reset": "earliest"}
            self._consumer = Consumer({**self._config, **few, **told, **reading})
        return self._consumer


def log_bounds(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """The log's first offset and the one after its last. Raises UnavailableError or SetupError."""
    try:
        low, high = consumer.get_watermark_offsets(
            TopicPartition(topic, partition), timeout=REQUEST_TIMEOUT_S, cached=False
        )
    except KafkaException as error:
        raise translate_running(error) from error
    return low, high
