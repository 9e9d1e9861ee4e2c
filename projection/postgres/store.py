"""The worker's side of Postgres: one guarded transaction a batch.

It is steps 2 to 4 of the rule (docs/ARCHITECTURE.md, "Positions and fences").
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg

from core_tables.projection.fold.batch import PART, decided_request, decided_unreadable
from core_tables.projection.fold.needs import Known
from core_tables.projection.fold.values import Changed, Decided, Loaded, Record, Request
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.fetch import run
from core_tables.projection.postgres.from_rows import (
    outcome_of_row,
)
from core_tables.projection.postgres.keys import (
    LaneStop,
    Move,
    Position,
    RecordName,
)
from core_tables.projection.postgres.lanes import KnownStop, LanePosition, lane_positions, lane_stops
from core_tables.projection.postgres.loading import BatchLoading
from core_tables.projection.postgres.pipeline import Answer, Pipeline
from core_tables.projection.postgres.row_types import (
    AcceptedRecord,
    CurrentRow,
    LockedLane,
    OutcomeRow,
    Row,
)
from core_tables.projection.postgres.rows import (
    attempt_rows,
    current_row,
    lease_rows,
    ledger_row,
    moved_row,
    outcome_row,
)
from core_tables.schemas.identity import lane_of
from core_tables.schemas.outcomes import ACCEPTED, Accepted, Outcome
from core_tables.schemas.reasons import LaneStoppedError
from core_tables.schemas.vocabulary import WorkOrderStatus
from core_tables.schemas.wire import Unreadable


class Store:
    """Reads positions and states, writes what a batch changed. One connection, one thread.

    The worker's connection is in autocommit mode: BEGIN and COMMIT travel with the statements after them.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._pipeline = Pipeline(connection)
        self._records = self._planned_at = 0

    def lanes(self, lanes: Sequence[int]) -> dict[int, LanePosition]:
        """The positions of the lanes asked for; a lane without a row is left out."""
        return lane_positions(self.connection, lanes)

    def raise_audited(self, audited: Mapping[int, int]) -> None:
        """Write the audited watermarks of idle lanes."""
        with translated(), self.connection.transaction():
            run(self.connection, "raise_audited", [Position(lane, offset) for lane, offset in audited.items()])

    def save_stops(self, stops: Sequence[LaneStop]) -> None:
        """Keep why lanes stopped."""
        with translated(), self.connection.transaction():
            run(self.connection, "save_stops", stops)

    def lane_stops(self) -> list[KnownStop]:
        """The stops that no lane has got past."""
        return lane_stops(self.connection)

    def clear_stops(self, lanes: Sequence[int]) -> None:
        """Note that lanes have got past their stops."""
        with translated(), self.connection.transaction():
            run(self.connection, "clear_stops", lanes)

    def begin(self, moves: Sequence[Move], records: Sequence[Record], known: Known) -> tuple[set[int], Loaded]:
        """Open the batch's transaction with its guard, and load what the fold must know about its records, in one round trip.

        Return the lanes that are where they were believed to be; if one is not, what was loaded is worth nothing.
        """
        loading = BatchLoading(records, known)
        with translated():
            with self._pipeline as pipeline:
                pipeline.command(b"BEGIN")
                if self._outgrown(len(records)):
                    pipeline.command(b"DISCARD PLANS")
                guard = pipeline.fetch(LockedLane, "advance_lanes", moves)
                loading.ask(pipeline)
            return {locked.lane for locked in guard.rows}, loading.loaded()

    def _outgrown(self, records: int) -> bool:
        """Whether as many records again were folded since the plans were made: they were made for smaller tables.

        Of an empty table any index seems as good as another; such a plan, kept, reads all work orders of a tenant for each.
        """
        self._records += records
        outgrown = self._records >= 2 * self._planned_at
        if outgrown:
            self._planned_at = self._records
        return outgrown

    def recall(self, records: Sequence[Record]) -> list[Decided]:
        """The outcomes of records below `applied`, in the batch's transaction. Raises LaneStoppedError."""
        asked = [RecordName(_attributed_tenant(record), record.event_id) for record in records]
        with translated(), self._pipeline as pipeline:
            accepted = pipeline.fetch(AcceptedRecord, "recall_accepted", asked)
            others = pipeline.fetch(OutcomeRow, "recall_outcomes", asked)
        statuses = {row.work_order_event_id: row.status_before for row in accepted.rows}
        outcomes: dict[int, Outcome] = dict.fromkeys(statuses, ACCEPTED)
        outcomes |= {row.event_id: outcome_of_row(row) for row in others.rows}
        return [recalled(record, outcomes, statuses) for record in records]

    def write(
        self, parts: Iterable[Sequence[Decided]], changed: Changed, meanwhile: Callable[[], None] | None = None
    ) -> None:
        """Write ledger, outcomes, current, attempts and leases of a batch, in its transaction and one round trip.

        `parts` are folded while they are taken: Postgres writes a part to the ledger while the next is folded. `changed` is
        complete after the last. `meanwhile`, if there is something to do, is called once all is handed over.
        """
        with self._writing() as write:
            for decided in parts:
                accepted = [
                    ledger_row(each.event_id, each.event, each.status_before)
                    for each in decided
                    if isinstance(each.outcome, Accepted) and each.event is not None
                ]
                write("insert_ledger", accepted)
                write(
                    "insert_outcomes", [outcome_row(each) for each in decided if not isinstance(each.outcome, Accepted)]
                )
                if len(decided) >= PART:  # another follows, most likely
                    self._pipeline.flush()
            for statement, rows in state_rows(changed.values()):
                write(statement, rows)
            if meanwhile is not None:
                self._pipeline.flush()
                meanwhile()

    def write_rows(self, writes: Iterable[tuple[str, Sequence[Row]]]) -> None:
        """Run insert statements in one round trip; every row must be written, or something else writes our tables."""
        with self._writing() as write:
            for statement, rows in writes:
                write(statement, rows)

    @contextmanager
    def _writing(self) -> Iterator[Callable[[str, Sequence[Row]], None]]:
        """Sends each statement as soon as its rows are there; at the end, checks that each wrote all of its rows."""
        sent: list[tuple[str, int, Answer[None]]] = []
        with translated(), self._pipeline as pipeline:

            def write(statement: str, rows: Sequence[Row]) -> None:
                if rows:
                    sent.append((statement, len(rows), pipeline.add(statement, rows)))

            yield write
        for statement, expected, answer in sent:
            if answer.count != expected:
                raise LaneStoppedError(
                    f"{statement} wrote {answer.count} of {expected} rows: the tables are ahead of their position; run "
                    "`core-tables verify`"
                )

    def commit(self, applied: Mapping[int, int]) -> bool:
        """Commit the batch, and wake the programs that wait for an outcome in lanes that are applied to these positions now.

        An error leaves the result unknown: reopen the lanes, never commit again. Return whether the wake-up was sent, which
        is a transaction of its own: inside of this one it would hold a global lock over the commit's fsync.
        """
        with translated():
            committed: Answer[None] = Answer()
            try:
                with self._pipeline as pipeline:
                    committed = pipeline.command(b"COMMIT")
                    if applied:
                        pipeline.add("notify_lanes", [Position(lane, offset) for lane, offset in applied.items()])
            except psycopg.Error:
                if committed.tag != "COMMIT":
                    raise
                return False
            if committed.tag != "COMMIT":
                raise LaneStoppedError(f"Postgres answered COMMIT with {committed.tag}; run `core-tables verify`")
        return True

    def rollback(self) -> None:
        """Give the batch up."""
        with translated():
            self.connection.rollback()


def state_rows(changed: Iterable[tuple[WorkOrder | None, WorkOrder]]) -> Iterator[tuple[str, Sequence[Row]]]:
    """What to write where when work orders change from one state to another: (statement, rows), in order.

    Most events leave fields, prompts and origin as they were: such a record's row is updated without them, for half the price.
    """
    pairs = list(changed)
    whole: list[CurrentRow] = []
    moved: list[CurrentRow] = []
    for before, after in pairs:
        if before is not None and before.collected is after.collected and before.origin is after.origin:
            moved.append(moved_row(after))
        else:
            whole.append(current_row(after))
    yield "upsert_current", whole
    yield "update_current", moved
    yield "upsert_attempts", [row for before, after in pairs for row in attempt_rows(after, before)]
    yield "upsert_leases", [row for before, after in pairs for row in lease_rows(after, before)]


def _attributed_tenant(record: Record) -> str:
    if isinstance(record.content, Unreadable):
        return record.content.tenant_id
    return decided_request(record, record.content, ACCEPTED, None).tenant_id


def recalled(
    record: Record, outcomes: Mapping[int, Outcome], statuses: Mapping[int, WorkOrderStatus | None]
) -> Decided:
    """What was decided about a record that is folded, by what is stored: the outcomes, and the statuses before accepted events.

    Raises LaneStoppedError.
    """
    outcome = outcomes.get(record.event_id)
    if outcome is None:
        raise LaneStoppedError(
            f"record {record.event_id} of lane {lane_of(record.event_id)} is below applied but has no outcome; "
            "run `core-tables verify`"
        )
    if isinstance(record.content, Request):
        return decided_request(record, record.content, outcome, statuses.get(record.event_id))
    return decided_unreadable(record, record.content, outcome)
