"""The log of a partition: where it begins and ends, and its records."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from core_tables.kafka.client_settings import KafkaSettings
from core_tables.kafka.clients import LOG_END_GROUP, REQUEST_TIMEOUT_S, admin_client, log_end_consumer
from core_tables.kafka.errors import (
    Translate,
    UnreadableRecordError,
    of_record,
    translate_kafka,
    translate_running,
    unread,
)
from core_tables.kafka.reported import answered_within, hearing
from core_tables.schemas.reasons import CoreTablesError, LaneStoppedError

LOOK_EVERY_S: Final = 0.25
LOOK_AHEAD: Final = 2000
_WAIT_S: Final = 0.2
_ANSWER_TIMEOUT_S: Final = 5.0
_LEAST_WAIT_S: Final = 0.1


def log_bounds(
    consumer: Consumer, topic: str, partition: int, translate: Translate = translate_running
) -> tuple[int, int]:
    """The first offset of a log, and the one after its last. Raises UnavailableError or SetupError."""
    target = TopicPartition(topic, partition)
    try:
        low, high = consumer.get_watermark_offsets(target, timeout=REQUEST_TIMEOUT_S, cached=False)
    except KafkaException as error:
        raise translate(error, f"DESCRIBE on the topic {topic}") from error
    return low, high


class LogEnd(NamedTuple):
    """Where a partition's log ends: `high` for all of its records, `stable` for those that a read_committed reader is given.

    While a program has a transaction open, `stable` stays where it began, also for the records that others append after it.
    """

    stable: int
    high: int


def log_ends(
    admin: AdminClient, topic: str, partitions: Iterable[int], timeout_s: float = REQUEST_TIMEOUT_S
) -> dict[int, LogEnd]:
    """The ends of partitions, in two requests for all of them. Raises UnavailableError or SetupError."""
    asked, newest = list(partitions), OffsetSpec.latest()  # type: ignore[no-untyped-call]
    # One after the other: what is appended between the two must not look like an open transaction.
    highs = _offsets(admin, topic, asked, newest, IsolationLevel.READ_UNCOMMITTED, timeout_s)
    stables = _offsets(admin, topic, asked, newest, IsolationLevel.READ_COMMITTED, timeout_s)
    return {partition: LogEnd(stables[partition], max(highs[partition], stables[partition])) for partition in asked}


def log_starts(
    admin: AdminClient, topic: str, partitions: Iterable[int], timeout_s: float = REQUEST_TIMEOUT_S
) -> dict[int, int]:
    """The first offsets of partitions, in one request for all of them. Raises UnavailableError or SetupError."""
    oldest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
    return _offsets(admin, topic, list(partitions), oldest, IsolationLevel.READ_UNCOMMITTED, timeout_s)


def _offsets(
    admin: AdminClient, topic: str, partitions: list[int], spec: OffsetSpec, level: IsolationLevel, timeout_s: float
) -> dict[int, int]:
    targets = {partition: TopicPartition(topic, partition) for partition in partitions}
    try:
        with hearing(admin):
            # Else a new client may answer only after 3 s: its question for the leaders is lost when it leaves the first
            # connection, that to a configured address, and is repeated after 3 s (librdkafka 2.16).
            answered_within(admin, partial(admin.list_topics, topic), timeout_s)
            asked = dict.fromkeys(targets.values(), spec)
            answers = admin.list_offsets(asked, isolation_level=level, request_timeout=timeout_s)
            return {partition: int(answers[target].result(timeout_s).offset) for partition, target in targets.items()}
    except TimeoutError as error:
        raise unread(topic, min(targets)) from error
    except KafkaException as error:
        raise translate_kafka(error, f"DESCRIBE on the topic {topic}") from error


def ask_ends(admin: AdminClient, topic: str, partitions: Iterable[int]) -> dict[int, "Future[Any]"]:
    """Ask for the ends of partitions, without waiting for the answer. Raises KafkaException."""
    targets = {partition: TopicPartition(topic, partition) for partition in partitions}
    newest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = dict.fromkeys(targets.values(), newest)
    answers = admin.list_offsets(asked, request_timeout=REQUEST_TIMEOUT_S)
    return {partition: answers[target] for partition, target in targets.items()}


def ends_without_lane(admin: AdminClient, topic: str, partitions: int) -> dict[int, int]:
    """By partition, the ends of the logs beyond the first `partitions`, those that hold something.

    A topic that was given more partitions has them, and a program that follows the new count writes there. Raises
    UnavailableError or SetupError.
    """
    try:
        with hearing(admin):
            found = admin.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic]
    except KafkaException as error:
        raise translate_kafka(error) from error
    if found.error is not None:
        raise translate_kafka(found.error, f"DESCRIBE on the topic {topic}")
    beyond = sorted(partition for partition in found.partitions if partition >= partitions)
    return (
        {partition: end.high for partition, end in log_ends(admin, topic, beyond).items() if end.high} if beyond else {}
    )


class TopicReader:
    """Reads partitions of a topic from given offsets, with a consumer that joins no group. One thread.

    A broker whose disk was full can leave records of failed sends in its log, under the offset of a record before them. The
    first record of an offset is the one that counts, for all readers.

    Every read begins by assigning its partitions, so readers that take turns may share a consumer. `translate` turns an error
    of the client into one of ours, which the methods raise. They also raise UnavailableError if neither a record nor the end
    of a partition comes for REQUEST_TIMEOUT_S.
    """

    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        group: str,
        translate: Translate = translate_kafka,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`group` is the consumer's; only a message about a missing right names it."""
        self._consumer = consumer
        self._clock = clock
        self._topic = topic
        self._translate = translate
        self._needs = f"READ on the topic {topic} and on the consumer group {group}"
        self._next_offsets: dict[int, int] = {}

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset of a log, and the one after its last."""
        return log_bounds(self._consumer, self._topic, partition, self._translate)

    def offsets_at(self, partitions: Iterable[int], nanoseconds: int) -> dict[int, int]:
        """Of each partition, the first offset whose record has at least this time; the end of the log if none has."""
        asked = [TopicPartition(self._topic, partition, nanoseconds // 1_000_000) for partition in partitions]
        try:
            found = self._consumer.offsets_for_times(asked, timeout=REQUEST_TIMEOUT_S)
        except KafkaException as error:
            raise self._translate(error, self._needs) from error
        return {
            target.partition: target.offset if target.offset >= 0 else self.bounds(target.partition)[1]
            for target in found
        }

    def batches(self, starts: Mapping[int, int], deadline: float | None = None) -> Iterator[list[Message]]:
        """The records of partitions from given offsets to the current ends, in batches as they come.

        With a `deadline` (in seconds of the clock), all of them must be read by then.
        """
        self._consumer.assign([TopicPartition(self._topic, partition, offset) for partition, offset in starts.items()])
        self._next_offsets.clear()
        unfinished = set(starts)
        limit = self._clock() + REQUEST_TIMEOUT_S if deadline is None else deadline
        while unfinished:
            left = limit - self._clock()
            if left <= 0:
                raise unread(self._topic, min(unfinished))
            records, ended, error = self._read(min(left, _WAIT_S))
            if records:
                yield records
                if deadline is None:  # counted from here, since the caller may have worked on them for long
                    limit = self._clock() + REQUEST_TIMEOUT_S
            if error is not None:
                raise error
            unfinished -= ended

    def records(self, starts: Mapping[int, int]) -> Iterator[Message]:
        """Like `batches`, one record at a time."""
        for batch in self.batches(starts):
            yield from batch

    def between(self, partition: int, start: int, end: int) -> Iterator[Message]:
        """The records of a partition from `start` up to but not including `end`, or to the current end of the log."""
        if start >= end:
            return
        try:
            for message in self.records({partition: start}):
                offset = message.offset()
                if offset is None or offset >= end:
                    return
                yield message
        except UnreadableRecordError as error:  # what was fetched ahead is not asked for
            if error.offset < end:
                raise

    def first(self, partition: int, start: int) -> Message | None:
        """The first record at or after an offset, or None, since a log may end with a gap."""
        return next(self.records({partition: start}), None)

    def at(self, partition: int, offset: int) -> Message | None:
        """The record at an offset, or None if the log has none there."""
        try:
            found = self.first(partition, offset)
        except UnreadableRecordError:
            raise
        except LaneStoppedError:  # the offset is outside of the log
            return None
        return found if found is not None and found.offset() == offset else None

    def follow(self) -> Iterator[list[Message]]:
        """Keep yielding what is appended to the partitions of the last read; it never ends."""
        while True:
            records, _, error = self._read(_WAIT_S)
            yield records
            if error is not None:
                raise error

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    def _read(self, wait_s: float) -> tuple[list[Message], set[int], CoreTablesError | None]:
        """What has been fetched, the partitions whose end was reached, and the first error; waits if nothing has been."""
        records: list[Message] = []
        ended: set[int] = set()
        failed: CoreTablesError | None = None
        for message in self._consumer.consume(1, wait_s) + self._consumer.consume(LOOK_AHEAD, 0):
            error = message.error()
            if error is None:
                if self._is_first(message):
                    records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition() or 0)
            else:
                failed = failed or self._error(message, error)
        return records, ended, failed

    def _is_first(self, message: Message) -> bool:
        partition, offset = message.partition() or 0, message.offset() or 0
        if offset < self._next_offsets.get(partition, 0):
            return False
        self._next_offsets[partition] = offset + 1
        return True

    def _error(self, message: Message, error: KafkaError) -> CoreTablesError:
        partition, offset = message.partition(), message.offset()
        if of_record(error) and partition is not None and offset is not None:
            return UnreadableRecordError(self._topic, partition, offset, error.str())
        return self._translate(error, self._needs)


class PartitionLog:
    """Finds out where the log of one partition ends, with clients of its own. One thread."""

    def __init__(self, settings: KafkaSettings, topic: str, partition: int) -> None:
        self._settings = settings
        self._topic, self._partition = topic, partition
        self._admin = admin_client(settings)
        self._reader: TopicReader | None = None

    def end(self, deadline: float) -> LogEnd:
        """Where the log ends, asked for until `deadline` (monotonic seconds). Raises UnavailableError or SetupError."""
        timeout_s = min(_ANSWER_TIMEOUT_S, max(_LEAST_WAIT_S, deadline - time.monotonic()))
        return log_ends(self._admin, self._topic, [self._partition], timeout_s)[self._partition]

    def holds_record(self, start: int, end: int, deadline: float) -> bool:
        """Whether there is a record at or above `start` and below `end`.

        True if that cannot be found out: because `deadline` (monotonic seconds) passes, or because this program may write to
        the topic, but not read it.
        """
        if self._reader is None:  # opened only when needed: only logs that end with a gap are read
            self._reader = TopicReader(log_end_consumer(self._settings), self._topic, LOG_END_GROUP)
        try:
            messages = next(self._reader.batches({self._partition: start}, deadline), None)
        except CoreTablesError:
            return True
        return messages is not None and (messages[0].offset() or 0) < end

    def close(self) -> None:
        """Close the consumer, if one was needed."""
        if self._reader is not None:
            self._reader.close()
