"""Verify against the topic: compare the ledger and outcome rows with the fold of the topic's own records.

The ledger table is written from the topic. This finds rows that were changed, added or lost since then.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Final, NamedTuple, Protocol, TypeVar

from core_tables.projection.fold.in_memory import FoldInMemory
from core_tables.projection.fold.values import Decided, Record
from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.fetch import fetch, query
from core_tables.projection.postgres.from_rows import event_of_row
from core_tables.projection.postgres.keys import RecordName
from core_tables.projection.postgres.lanes import lane_positions
from core_tables.projection.postgres.row_types import LedgerRow, OutcomeRow, differing_columns
from core_tables.projection.postgres.rows import ledger_row, outcome_row
from core_tables.projection.verify.facts import LaneRows
from core_tables.projection.verify.report import Difference, Progress, Report
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import event_id_at
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.topic import LedgerTopic
from core_tables.schemas.wire import Schemas, lane_schemas

RECORDS_PER_CHUNK: Final = 1000
EVENTS_PER_PAGE: Final = 10_000


_R = TypeVar("_R", LedgerRow, OutcomeRow)


class _Rows(NamedTuple):
    rows: int


class TopicLog(Protocol):
    """The log of a ledger topic, by partition."""

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset of the log, and the one after its last."""

    def records(self, partition: int, start: int, end: int, schemas: Schemas) -> Iterable[Record]:
        """The records from offset `start` up to but not including `end`, read with the schemas that are registered."""


class LaneLog(NamedTuple):
    """A lane: the bounds of its log, its `applied` offset, and how many rows have ids in it.

    `topic_begins` is the first id of the lane's topic; smaller ids belong to earlier topics.
    """

    lane: int
    topic_begins: int
    log_start: int
    log_end: int
    applied: int
    rows: int


def verify_topic(
    connection: Connection, topic: LedgerTopic, log: TopicLog, progress: Progress = lambda _: None
) -> Report:
    """Compare ledger and outcome rows with the fold of a topic's records, lane by lane, in one snapshot.

    The connection's role must see every tenant. Raises what `log` raises.
    """
    compared = 0
    differences: list[Difference] = []
    with translated(), connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        rows = rows_by_lane(connection)
        positions = lane_positions(connection, range(topic.first_lane, topic.first_lane + topic.partitions))
        for lane, position in sorted(positions.items()):
            partition = lane - topic.first_lane
            start, end = log.bounds(partition)
            lane_log = LaneLog(lane, event_id_at(topic.first_lane, 0), start, end, position.applied, rows[lane])
            records = log.records(partition, start, position.applied, lane_schemas(position.schemas))
            for count, found in verify_lane(connection, lane_log, records):
                compared, differences = compared + count, differences + found
                progress(compared)
    broken = len({found.what.partition(":")[0] for found in differences if found.tenant_id is not None})
    return Report(compared, compared - broken, 0, compared, differences)


def rows_by_lane(connection: Connection) -> dict[int, int]:
    """How many ledger and outcome rows have ids in each lane."""
    return {found.lane: found.rows for found in fetch(connection, LaneRows, "count_records")}


def verify_lane(
    connection: Connection, log: LaneLog, records: Iterable[Record]
) -> Iterator[tuple[int, list[Difference]]]:
    """Fold the records that a lane's log still has; yield, per chunk, how many were compared and what differs.

    Later decisions also depend on the records of earlier topics, and on those that were deleted from the log. In their place,
    the rows of the ledger table are trusted. `records` must end where the snapshot of the connection does. The states and
    idempotency keys of the lane are kept in memory.
    """
    deleted = (event_id_at(log.lane, 0), event_id_at(log.lane, log.log_start) - 1)
    if log.log_start > 0 or log.log_end < log.applied:
        what = f"lane {log.lane}: {log.applied} offsets were folded, but the log holds those from {log.log_start} to {log.log_end}"
        yield 0, [Difference(None, None, "topic", what)]
    fold = FoldInMemory(partial(_history, connection, [(0, log.topic_begins - 1), deleted]))
    explained = 0 if log.log_start == 0 else rows_between(connection, *deleted)
    for chunk in _chunks(records):
        found, rows = _compare_records(connection, fold.decide(chunk))
        explained += rows
        yield len(chunk), found
    if log.rows != explained:
        what = f"lane {log.lane}: {log.rows - explained} rows that no record explains, of another tenant or above the log's end"
        yield 0, [Difference(None, None, "work_order_ledger", what)]


def rows_between(connection: Connection, first: int, last: int) -> int:
    """How many ledger and outcome rows have ids from `first` to `last`."""
    (found,) = fetch(connection, _Rows, "count_records_between", first, last, first, last)
    return found.rows


def _chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    iterator = iter(records)
    while chunk := list(islice(iterator, RECORDS_PER_CHUNK)):
        yield chunk


def _history(
    connection: Connection, ranges: Sequence[tuple[int, int]], tenant_id: str
) -> Iterator[tuple[int, LedgerEvent]]:
    """A tenant's events in the ledger table with ids in one of the ranges, which are in ascending order."""
    for first, last in ranges:
        start = first
        while start <= last:
            rows = fetch(connection, LedgerRow, "read_ledger", tenant_id, last, start - 1, EVENTS_PER_PAGE)
            yield from ((row.work_order_event_id, event_of_row(row)) for row in rows)
            start = rows[-1].work_order_event_id + 1 if rows else last + 1


def _compare_records(connection: Connection, decided: Sequence[Decided]) -> tuple[list[Difference], int]:
    """What differs, and how many rows these records have."""
    asked = [RecordName(item.tenant_id, item.event_id) for item in decided]
    with connection.pipeline():
        ledger = query(connection, LedgerRow, "load_ledger_records", asked)
        outcomes = query(connection, OutcomeRow, "load_outcome_records", asked)
    ledger_rows = {row.work_order_event_id: row for row in ledger}
    outcome_rows = {row.event_id: row for row in outcomes}
    found = []
    for item in decided:
        if isinstance(item.outcome, Accepted) and item.event is not None:
            found += _difference(
                item, "work_order_ledger", ledger_row(item.event_id, item.event, item.status_before), ledger_rows
            )
            found += _difference(item, "work_order_outcomes", None, outcome_rows)
        else:
            found += _difference(item, "work_order_outcomes", outcome_row(item), outcome_rows)
            found += _difference(item, "work_order_ledger", None, ledger_rows)
    return found, len(ledger_rows) + len(outcome_rows)


def _difference(item: Decided, table: str, expected: _R | None, rows: Mapping[int, _R]) -> list[Difference]:
    """The difference between a record's expected row (None: no row) and the one in the table, if there is one."""
    actual = rows.get(item.event_id)
    if actual is None and expected is None:
        return []
    if actual is not None and expected is not None and not differing_columns(expected, actual):
        return []
    what = (
        "row missing"
        if actual is None
        else "row that no record explains"
        if expected is None
        else "differs from the record"
    )
    work_order_id = None if item.event is None else item.event.work_order_id
    return [Difference(item.tenant_id, work_order_id, table, f"record {item.event_id}: {what}")]
