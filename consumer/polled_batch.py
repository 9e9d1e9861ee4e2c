"""What one poll brought: records by partition, in order, and what of it cannot be folded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import KafkaError

from core_tables.consumer.fetcher import Failure, Read
from core_tables.consumer.lane import Lane
from core_tables.kafka.errors import translate_kafka
from core_tables.projection.fold.needs import Known
from core_tables.projection.fold.values import Record, Request
from core_tables.schemas.identity import lane_of, offset_of
from core_tables.schemas.reasons import CoreTablesError


@dataclass
class Batch:
    """Records by partition, and the offsets after them; and what is wrong after those, if anything."""

    records: dict[int, list[Record]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    skipped: dict[int, tuple[int, int]] = field(
        default_factory=dict
    )  # the offset that was expected, and the one that came
    stops: dict[int, tuple[int, CoreTablesError]] = field(default_factory=dict)  # the offset to stop at, and why
    lost: dict[int, CoreTablesError] = field(default_factory=dict)  # the log no longer has what was to be fetched
    failures: list[Failure] = field(default_factory=list)

    def only(self, partition: int) -> "Batch":
        """The part of the batch that is in one partition."""
        return Batch({partition: self.records[partition]}, {partition: self.ends[partition]})

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


def gather(reads: Iterable[Read], lanes: Mapping[int, Lane], first_lane: int) -> Batch:
    """A batch of what was read. Records before a lane's next offset, and those of lanes that are not open, are left out."""
    batch = Batch()
    broken: set[int] = set()
    for read in reads:
        if isinstance(read, Failure):
            if read.partition is not None and read.error.code() == KafkaError._AUTO_OFFSET_RESET:
                batch.lost[read.partition] = translate_kafka(read.error)
            else:
                batch.failures.append(read)
            continue
        partition, offset = lane_of(read.event_id) - first_lane, offset_of(read.event_id)
        lane = lanes.get(partition)
        if lane is None or not lane.opened or partition in broken:
            continue
        expected = batch.ends.get(partition, lane.next_offset)
        if offset < expected:
            continue
        if offset > expected and lane.gaps.get(expected) != offset:
            # A gap of the log, or a message that was fetched before the lane was reopened: the log will tell.
            batch.skipped[partition] = (expected, offset)
            broken.add(partition)
        elif isinstance(read, Record):
            batch.records.setdefault(partition, []).append(read)
            batch.ends[partition] = offset + 1
        else:
            batch.stops[partition] = offset, read.error
            broken.add(partition)
    return batch
