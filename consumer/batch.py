"""What one poll brought: records by partition, in order, and what cannot be folded of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import KafkaError, Message

from core_tables.consumer.kafka import header, translate
from core_tables.consumer.lane import Lane
from core_tables.projection.decide import Request
from core_tables.projection.fold import Known, Record, read_content
from core_tables.projection.store import TopicRow
from core_tables.schemas.identity import event_id, offset_of
from core_tables.schemas.reasons import CoreTablesError, UnknownSchemaError
from core_tables.schemas.vocabulary import NS_PER_MS

MAX_TRACEPARENT_BYTES: Final = 256  # W3C Trace Context, level 2: 55 bytes in version 00


@dataclass
class Batch:
    """Records by partition, and the offsets after them; where something is wrong behind them, and what."""

    records: dict[int, list[Record]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    gaps: dict[int, tuple[int, int]] = field(default_factory=dict)  # the offset expected, and the one that came
    stops: dict[int, tuple[int, CoreTablesError]] = field(default_factory=dict)  # the offset to stop at, and why
    lost: dict[int, CoreTablesError] = field(default_factory=dict)  # the log has not got what was fetched
    errors: list[KafkaError] = field(default_factory=list)

    def only(self, partition: int) -> "Batch":
        """The part of the batch that is in one partition."""
        return Batch({partition: self.records[partition]}, {partition: self.ends[partition]})

    def drop(self, partition: int) -> None:
        """Leave a partition out."""
        del self.records[partition], self.ends[partition]

    def split(self, applied: Mapping[int, int]) -> tuple[list[Record], list[Record]]:
        """The records whose outcomes are recalled, and those that are decided, by what is applied in each partition."""
        recalled: list[Record] = []
        decided: list[Record] = []
        for partition, records in self.records.items():
            if offset_of(records[0].position_id) >= applied[partition]:
                decided += records
                continue
            for record in records:
                (recalled if offset_of(record.position_id) < applied[partition] else decided).append(record)
        return recalled, decided

    def known_states(self, lanes: Mapping[int, Lane]) -> Known:
        """The states in memory of the work orders that the batch names, and the bits of their keys."""
        known: Known = {}
        for partition, records in self.records.items():
            states = lanes[partition].states
            for record in records:
                if isinstance(record.content, Request):
                    key = record.content.event[2:4]
                    held = states.get(key)
                    if held is not None:
                        known[key] = held
        return known


def read_batch(messages: Sequence[Message], lanes: Mapping[int, Lane], topic: TopicRow) -> Batch:
    """Read what a poll brought. What lies before a lane's next offset, or in a lane that is not open, is left out."""
    batch = Batch()
    broken: set[int] = set()
    for message in messages:
        error = message.error()
        partition, offset = message.partition(), message.offset()
        if error is not None:
            if error.code() == KafkaError._AUTO_OFFSET_RESET and partition is not None:
                batch.lost[partition] = translate(error)
            else:
                batch.errors.append(error)
            continue
        lane = lanes.get(partition) if partition is not None else None
        if lane is None or partition is None or offset is None or not lane.opened or partition in broken:
            continue
        expected = batch.ends.get(partition, lane.next_offset)
        if offset < expected:
            continue
        if offset > expected and lane.holes.get(expected) != offset:
            # A hole of the log, or a message that was fetched before the lane was reopened: the log knows.
            batch.gaps[partition] = (expected, offset)
            broken.add(partition)
            continue
        try:
            record = _read(message, event_id(lane.lane, offset), partition, topic.partitions)
        except UnknownSchemaError as unknown:
            what = f"record at offset {offset} of partition {partition} of {topic.topic}: {unknown.sentence}"
            batch.stops[partition] = offset, UnknownSchemaError(what)
            broken.add(partition)
            continue
        batch.records.setdefault(partition, []).append(record)
        batch.ends[partition] = offset + 1
    return batch


def _read(message: Message, position_id: int, partition: int, partitions: int) -> Record:
    headers = message.headers()
    trace = header(headers, "traceparent") if headers else None
    if trace is not None and len(trace) > MAX_TRACEPARENT_BYTES:
        trace = None  # a header may be as large as the broker takes; copied, it would make the audit event too large
    content = read_content(position_id, message.key(), message.value(), partition, partitions)
    return Record(position_id, content, max(0, message.timestamp()[1]) * NS_PER_MS, trace)
