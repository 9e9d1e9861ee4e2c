"""What was fetched and is still to be folded; the records of the next batch are read while Postgres writes the one before."""

from contextlib import suppress
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, Message

from core_tables.kafka.clients import header
from core_tables.projection.fold.batch import Record, read_content
from core_tables.schemas.identity import event_id_at, lane_of
from core_tables.schemas.reasons import UnknownSchemaError
from core_tables.schemas.topic import LedgerTopic
from core_tables.schemas.vocabulary import NS_PER_MS

MAX_TRACEPARENT_BYTES: Final = 256  # W3C Trace Context, level 2: 55 bytes in version 00


class Unknown(NamedTuple):
    """A record that only another release can read."""

    event_id: int
    error: UnknownSchemaError


class Failure(NamedTuple):
    """An error of the client that came in the place of a record; of one partition, or of all."""

    partition: int | None
    error: KafkaError


Read = Record | Unknown | Failure


class Fetched:
    """Messages in the order they came: those at the front are read, those behind are not yet."""

    def __init__(self, consumer: Consumer, topic: LedgerTopic) -> None:
        self._consumer = consumer
        self._topic = topic
        self._read: list[Read] = []
        self._messages: list[Message] = []

    def take(self, size: int, wait_s: float) -> list[Read]:
        """At most `size`; waits for one if none is here. The group's callbacks run in here, and in `failures`."""
        if not (self._read or self._messages):
            self._keep(self._consumer.consume(1, wait_s))
        room = 2 * size - len(self._read) - len(self._messages)
        if 0 < room < 2 * size:
            self._keep(self._consumer.consume(room, 0))
        self._read_some(size - len(self._read))
        taken, self._read = self._read[:size], self._read[size:]
        return taken

    def failures(self, wait_s: float) -> list[Read]:
        """What went wrong, if anything, in a pause: what else is here stays, and no more of it comes."""
        self._keep(self._consumer.consume(1, wait_s))
        failed = [message for message in self._messages if message.error() is not None]
        self._messages = [message for message in self._messages if message.error() is None]
        return [_read(message, self._topic) for message in failed]

    def ahead(self) -> bool:
        """Whether there is something to read ahead."""
        return bool(self._messages)

    def read_ahead(self, size: int) -> None:
        """Read the next `size` while there is nothing else to do. A defect is left for `take`, outside of any transaction."""
        with suppress(Exception):
            self._read_some(size - len(self._read))

    def _read_some(self, count: int) -> None:
        if count > 0:
            reads = [_read(message, self._topic) for message in self._messages[:count]]
            self._messages = self._messages[count:]
            self._read += reads

    def forget(self, partition: int) -> None:
        """Drop what is here of a partition: it is fetched anew from where the fold is, or is another worker's now."""
        self._read = [read for read in self._read if self._partition(read) != partition]
        self._messages = [message for message in self._messages if message.partition() != partition]

    def _partition(self, read: Read) -> int | None:
        return read.partition if isinstance(read, Failure) else lane_of(read.event_id) - self._topic.first_lane

    def _keep(self, messages: list[Message]) -> None:
        self._messages += messages  # of now: the callbacks of `consume`, which has ended, may have replaced the list


def _read(message: Message, topic: LedgerTopic) -> Read:
    error, partition, offset = message.error(), message.partition(), message.offset()
    if error is not None:
        return Failure(partition, error)
    assert partition is not None  # noqa: S101 - only what was never produced has none
    assert offset is not None  # noqa: S101
    event_id = event_id_at(topic.first_lane + partition, offset)
    headers = message.headers()
    trace = header(headers, "traceparent") if headers else None
    if trace is not None and len(trace) > MAX_TRACEPARENT_BYTES:
        trace = None  # a header may be as large as the broker takes; copied, it would make the audit event too large
    try:
        content = read_content(event_id, message.key(), message.value(), partition, topic.partitions)
    except UnknownSchemaError as unknown:
        what = f"record at offset {offset} of partition {partition} of {topic.topic}: {unknown.sentence}"
        return Unknown(event_id, UnknownSchemaError(what))
    return Record(event_id, content, max(0, message.timestamp()[1]) * NS_PER_MS, trace)
