"""The ledger topic as `verify` reads it."""

from collections.abc import Iterator, Sequence
from contextlib import closing

from core_tables.cli import wiring
from core_tables.consumer.lane_status import without_lane
from core_tables.kafka.clients import admin_client
from core_tables.kafka.log import TopicReader, ends_without_lane
from core_tables.projection.fold.batch import read_content
from core_tables.projection.fold.values import Record
from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.lanes import ledger_topics
from core_tables.projection.verify.against_topic import rows_between, verify_topic
from core_tables.projection.verify.report import Difference, Progress, Report, whole_report
from core_tables.schemas.identity import event_id_at
from core_tables.schemas.reasons import CoreTablesError
from core_tables.schemas.topic import LedgerTopic
from core_tables.schemas.wire import Schemas
from core_tables.settings.environment import Settings


class LedgerLog:
    """The log of a ledger topic: a TopicLog of `verify_topic`."""

    def __init__(self, reader: TopicReader, topic: LedgerTopic) -> None:
        self._reader = reader
        self._topic = topic

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset of the log, and the one after its last."""
        return self._reader.bounds(partition)

    def records(self, partition: int, start: int, end: int, schemas: Schemas) -> Iterator[Record]:
        """The records from `start` up to but not including `end`, without the broker's time, which no decision needs."""
        for message in self._reader.between(partition, start, end):
            event_id = event_id_at(self._topic.first_lane + partition, message.offset() or 0)
            content = read_content(event_id, message.key(), message.value(), partition, self._topic.partitions, schemas)
            yield Record(event_id, content, 0, None)


def verify_against_topic(settings: Settings, connections: Sequence[Connection], progress: Progress) -> Report:
    """Compare ledger and outcome rows with the fold of the topic that the settings name; `progress` counts records."""
    topic = wiring.registered_topic(settings, connections[0])
    with closing(wiring.topic_reader(settings, topic.topic)) as reader:
        log = LedgerLog(reader, topic)
        report = whole_report([verify_topic(connection, topic, log, progress) for connection in connections])
    strays = ends_without_lane(admin_client(settings.kafka_settings()), topic.topic, topic.partitions)
    return report._replace(
        differences=report.differences
        + [Difference(None, None, "topic", f"partition {found}: {without_lane(end)}") for found, end in strays.items()]
    )


def count_records_below(settings: Settings, connection: Connection, lane: int, end: int) -> int | None:
    """How many records a lane's log has had below an offset, or None if the topic cannot be read.

    There are fewer records than offsets if the log has gaps. Records that were deleted from the topic are counted by their
    rows, the only trace that is left of them.
    """
    for topic in ledger_topics(connection):
        partition = lane - topic.first_lane
        if not 0 <= partition < topic.partitions:
            continue
        with closing(wiring.topic_reader(settings, topic.topic)) as reader:
            try:
                start = reader.bounds(partition)[0]
                gone = rows_between(connection, event_id_at(lane, 0), event_id_at(lane, start) - 1)
                return gone + sum(1 for _ in reader.between(partition, start, end))
            except CoreTablesError:
                return None
    return None
