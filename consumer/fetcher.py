"""Fetches the records of open lanes, and holds those that are not folded yet.

The records of the next batch are read while Postgres writes the one before.
"""

from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from core_tables.consumer.checks import defect
from core_tables.kafka.clients import header, headers_of
from core_tables.projection.fold.batch import read_content
from core_tables.projection.fold.values import Record
from core_tables.schemas.identity import event_id_at, lane_of
from core_tables.schemas.reasons import CoreTablesError, UnknownSchemaError
from core_tables.schemas.topic import LedgerTopic
from core_tables.schemas.traceparent import well_formed
from core_tables.schemas.vocabulary import NS_PER_MS
from core_tables.schemas.wire import KNOWN_SCHEMAS, Schemas


class Unread(NamedTuple):
    """A record that this release cannot read, and why."""

    event_id: int
    error: CoreTablesError


class Failure(NamedTuple):
    """An error of the client that came in place of a record, at an offset of one partition, or about all (None).

    The end of a log is one too: there was no record between the last one and its offset.
    """

    partition: int | None
    offset: int | None
    error: KafkaError


Read = Record | Unread | Failure


class Fetcher:
    """Fetches partitions from where the fold is; the group's callbacks run inside of `take` and `failures`.

    Messages are held in the order in which they came: the first have been read into records, the others not yet. A record is
    read with the schemas that are registered for its lane, as they were when the lane was opened.
    """

    def __init__(self, consumer: Consumer, topic: LedgerTopic) -> None:
        self._consumer = consumer
        self._topic = topic
        self._reads: list[Read] = []
        self._messages: list[Message] = []
        self._schemas: dict[int, Schemas] = {}  # by partition
        self.paused = False

    def start(self, partition: int, offset: int, schemas: Schemas) -> None:
        """Begin to fetch a partition at an offset, with the schemas that are registered for its lane."""
        self.forget(partition)  # what came after a stop was read with the schemas of before
        self._schemas[partition] = schemas
        self._consumer.incremental_assign([TopicPartition(self._topic.topic, partition, offset)])
        if self.paused:
            self._consumer.pause(self._targets([partition]))

    def stop(self, partitions: Iterable[int]) -> None:
        """Stop fetching partitions, and drop what is held of them."""
        stopped = list(partitions)
        # Also with an empty list: if a callback of the group does not call this, the client does, with all that is revoked.
        self._consumer.incremental_unassign(self._targets(stopped))
        for partition in stopped:
            self.forget(partition)

    def pause(self, partitions: Iterable[int]) -> None:
        """Fetch nothing more; `partitions` are those that are fetched."""
        self.paused = True
        self._consumer.pause(self._targets(partitions))

    def resume(self, partitions: Iterable[int]) -> None:
        """Continue after a pause."""
        self.paused = False
        self._consumer.resume(self._targets(partitions))

    def take(self, size: int, wait_s: float) -> list[Read]:
        """At most `size` records; if there are none, wait for one."""
        if not (self._reads or self._messages):
            self._hold(self._consumer.consume(1, wait_s))
        room = 2 * size - len(self._reads) - len(self._messages)
        if 0 < room < 2 * size:
            self._hold(self._consumer.consume(room, 0))
        self._read_some(size - len(self._reads))
        taken, self._reads = self._reads[:size], self._reads[size:]
        return taken

    def failures(self, wait_s: float) -> list[Read]:
        """In a pause: the errors that came. The messages stay held, and so do the ends of logs behind them."""
        self._hold(self._consumer.consume(1, wait_s))
        failed = [message for message in self._messages if _is_failure(message)]
        self._messages = [message for message in self._messages if not _is_failure(message)]
        return [self._read(message) for message in failed]

    def may_read_ahead(self) -> bool:
        """Whether messages are held that have not been read yet."""
        return bool(self._messages)

    def read_ahead(self, size: int) -> None:
        """Read the next `size` records now."""
        self._read_some(size - len(self._reads))

    def forget(self, partition: int) -> None:
        """Drop what is held of a partition."""
        self._reads = [read for read in self._reads if self._partition(read) != partition]
        self._messages = [message for message in self._messages if message.partition() != partition]

    def _read_some(self, count: int) -> None:
        if count > 0:
            reads = [self._read(message) for message in self._messages[:count]]
            self._messages = self._messages[count:]
            self._reads += reads

    def _read(self, message: Message) -> Read:
        error, partition, offset = message.error(), message.partition(), message.offset()
        if error is not None:
            return Failure(partition, offset, error)
        assert partition is not None  # noqa: S101 - only a message that was never produced has none
        assert offset is not None  # noqa: S101
        topic = self._topic
        event_id = event_id_at(topic.first_lane + partition, offset)
        schemas = self._schemas.get(partition, KNOWN_SCHEMAS)  # of a lane that is not open, nothing is folded
        try:
            content = read_content(event_id, message.key(), message.value(), partition, topic.partitions, schemas)
        except UnknownSchemaError as unknown:
            what = f"record at offset {offset} of partition {partition} of {topic.topic}: {unknown.message}"
            return Unread(event_id, UnknownSchemaError(what))
        except Exception as cause:  # no record of a stranger may end the worker, and with it all of its lanes
            what = f"record at offset {offset} of partition {partition} of {topic.topic}"
            return Unread(event_id, defect(what, cause))
        headers = headers_of(message)
        trace = well_formed(header(headers, "traceparent")) if headers else None
        return Record(event_id, content, max(0, message.timestamp()[1]) * NS_PER_MS, trace)

    def _hold(self, messages: list[Message]) -> None:
        # The list is looked up after `consume` has returned: a callback in there may have replaced it.
        self._messages += messages

    def _partition(self, read: Read) -> int | None:
        return read.partition if isinstance(read, Failure) else lane_of(read.event_id) - self._topic.first_lane

    def _targets(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic.topic, partition) for partition in partitions]


def _is_failure(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() != KafkaError._PARTITION_EOF
