"""What one poll brought: records by partition, in order, and what of it cannot be folded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import KafkaError

from core_tables.consumer.fetcher import Failure, Read, Unread
from core_tables.consumer.lane import EndOfLog, Lane
from core_tables.kafka.errors import UnreadableRecordError, of_record, translate_kafka
from core_tables.projection.fold.needs import Known
from core_tables.projection.fold.values import Record, Request
from core_tables.schemas.identity import lane_of, offset_of
from core_tables.schemas.reasons import CoreTablesError
from core_tables.schemas.topic import LedgerTopic


class Stop(NamedTuple):
    """A record that its lane stops at: where the lane is when all before it is folded, its offset, and the cause."""

    expected: int
    offset: int
    error: CoreTablesError


@dataclass
class Batch:
    """Records by partition, and the offsets after them; and what is wrong after those, if anything."""

    records: dict[int, list[Record]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    skipped: dict[int, tuple[int, int]] = field(
        default_factory=dict
    )  # the offset that was expected, and the one that came
    stops: dict[int, Stop] = field(default_factory=dict)
    lost: dict[int, CoreTablesError] = field(default_factory=dict)  # the log no longer has what was to be fetched
    failures: list[Failure] = field(default_factory=list)

    def only(self, *partitions: int) -> "Batch":
        """The part of the batch that is in some partitions."""
        return Batch({each: self.records[each] for each in partitions}, {each: self.ends[each] for each in partitions})

    def halves(self) -> list["Batch"]:
        """A batch of one partition as two, in order; none if it has one record."""
        ((partition, records),) = self.records.items()
        middle = len(records) // 2
        if middle == 0:
            return []
        end = offset_of(records[middle - 1].event_id) + 1
        return [Batch({partition: records[:middle]}, {partition: end}), Batch({partition: records[middle:]}, self.ends)]

    def parts(self, *, halved: bool) -> list["Batch"]:
        """What a batch that failed is tried again in: lane by lane, then, with `halved`, the halves of a lane's records."""
        if len(self.records) > 1:
            return [self.only(partition) for partition in sorted(self.records)]
        return self.halves() if halved else []

    def add_failure(self, failure: Failure, lanes: Mapping[int, Lane]) -> None:
        """Note an error of the client that is not about a record, or the end of a log."""
        code = failure.error.code()
        if failure.partition is None:
            self.failures.append(failure)
        elif code == KafkaError._PARTITION_EOF:
            lane = lanes.get(failure.partition)
            held_up = failure.partition in self.skipped or failure.partition in self.stops
            if lane is not None and lane.opened and failure.offset is not None and not held_up:
                lane.log_end = EndOfLog(self.ends.get(failure.partition, lane.next_offset), failure.offset)
        elif code == KafkaError._AUTO_OFFSET_RESET:
            self.lost[failure.partition] = translate_kafka(failure.error)
        else:
            self.failures.append(failure)

    def drop(self, partition: int) -> None:
        """Leave out a partition."""
        del self.records[partition], self.ends[partition]

    def split(self, applied: Mapping[int, int]) -> tuple[list[Record], list[Record]]:
        """The records whose outcomes are recalled, and those that are decided, by what is applied in each partition."""
        recalled: list[Record] = []
        decided: list[Record] = []
        for partition, records in self.records.items():
            if offset_of(records[0].event_id) >= applied[partition]:
                decided += records
                continue
            for record in records:
                (recalled if offset_of(record.event_id) < applied[partition] else decided).append(record)
        return recalled, decided

    def known_states(self, lanes: Mapping[int, Lane]) -> Known:
        """The states in memory of the batch's work orders, and the bits of their keys."""
        known: Known = {}
        for partition, records in self.records.items():
            states = lanes[partition].states
            for record in records:
                if isinstance(record.content, Request):
                    event = record.content.event
                    key = (event.tenant_id, event.work_order_id)
                    held = states.get(key)
                    if held is not None:
                        known[key] = held
        return known


def gather(reads: Iterable[Read], lanes: Mapping[int, Lane], topic: LedgerTopic) -> Batch:
    """A batch of what was read. Records before a lane's next offset, and those of lanes that are not open, are left out."""
    batch = Batch()
    broken: set[int] = set()
    for read in reads:
        if isinstance(read, Failure):
            if not _is_of_a_record(read):
                batch.add_failure(read, lanes)
                continue
            partition, offset = read.partition or 0, read.offset or 0
        else:
            partition, offset = lane_of(read.event_id) - topic.first_lane, offset_of(read.event_id)
        lane = lanes.get(partition)
        if lane is None or not lane.opened or partition in broken:
            continue
        expected = batch.ends.get(partition, lane.next_offset)
        if offset < expected:
            if not isinstance(read, Failure):
                continue
            offset = expected  # it names the first record of those that were compressed together
        if offset > expected and lane.gaps.get(expected) != offset:
            # A gap of the log, or a message that was fetched before the lane was reopened: the log will tell.
            batch.skipped[partition] = (expected, offset)
            broken.add(partition)
        elif isinstance(read, Record):
            batch.records.setdefault(partition, []).append(read)
            batch.ends[partition] = offset + 1
        else:
            broken.add(partition)
            if isinstance(read, Unread):
                batch.stops[partition] = Stop(expected, offset, read.error)
            elif lane.unread_at != offset:
                lane.unread_at = offset
                batch.add_failure(read, lanes)
            else:  # at the same offset again: it does not pass
                error = UnreadableRecordError(topic.topic, partition, offset, read.error.str())
                batch.stops[partition] = Stop(expected, offset, error)
    return batch


def _is_of_a_record(failure: Failure) -> bool:
    return failure.partition is not None and failure.offset is not None and of_record(failure.error)
