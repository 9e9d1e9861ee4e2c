"""The worker's side of Postgres: one guarded transaction a batch.

It is steps 2 to 4 of the rule (docs/ARCHITECTURE.md, "Positions and fences").
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from msgspec.structs import replace

from core_tables.projection.fold.batch import PART, decided_request
from core_tables.projection.fold.needs import Known, loadable_events, named_attempts, unsure_keys
from core_tables.projection.fold.values import Changed, Decided, First, Loaded, Record, Request, WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.pipeline import Answer, Pipeline
from core_tables.projection.postgres.row_types import (
    AttemptRow,
    CurrentRow,
    LeaseRow,
    OutcomeRow,
    attempt_of_row,
    lease_of_row,
    outcome_of_row,
    state_of_row,
)
from core_tables.projection.postgres.rows import (
    Row,
    attempt_rows,
    current_row,
    lease_rows,
    ledger_row,
    moved_row,
    outcome_row,
)
from core_tables.projection.postgres.statements import sql
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import lane_of
from core_tables.schemas.json_form import payload_from_json
from core_tables.schemas.outcomes import ACCEPTED, Accepted, Outcome
from core_tables.schemas.reasons import LaneStoppedError
from core_tables.schemas.topic import LedgerTopic
from core_tables.schemas.wire import Unreadable


class LanePosition(NamedTuple):
    """A row of os_core.lanes; offsets are "next to do"."""

    lane: int
    applied: int
    audited: int
    epoch: int
    fold_version: int


class Move(NamedTuple):
    """What a batch does to a lane: from `applied` at `epoch` to `reached`; below `audited` all is audited."""

    lane: int
    applied: int
    epoch: int
    reached: int
    audited: int


class Store:
    """Reads positions and states, writes what a batch changed. One connection, one thread.

    The worker's connection is in autocommit mode: BEGIN and COMMIT travel with the statements after them.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._pipeline = Pipeline(connection)
        self._records = self._planned_at = 0

    def topics(self) -> list[LedgerTopic]:
        """The topics of the ledger, oldest first."""
        with translated(), self.connection.transaction():
            return [LedgerTopic(*row) for row in self._rows("load_topics")]

    def lanes(self, lanes: Sequence[int]) -> dict[int, LanePosition]:
        """The positions of the lanes asked for; a lane without a row is left out."""
        with translated(), self.connection.transaction():
            positions = [LanePosition(*row) for row in self._rows("load_lanes", list(lanes))]
            return {position.lane: position for position in positions}

    def raise_audited(self, audited: Mapping[int, int]) -> None:
        """Write the audited watermarks of idle lanes."""
        with translated(), self.connection.transaction():
            self.connection.execute(sql("raise_audited"), (list(audited), list(audited.values())))

    def begin(self, moves: Sequence[Move], records: Sequence[Record], known: Known) -> tuple[set[int], Loaded]:
        """Open the batch's transaction with its guard, and load what the fold must know about its records, in one round trip.

        Return the lanes that are where they were believed to be; if one is not, what was loaded is worth nothing.
        """
        loading = _Loading(records, known)
        with translated():
            with self._pipeline as pipeline:
                pipeline.command(b"BEGIN")
                if self._outgrown(len(records)):
                    pipeline.command(b"DISCARD PLANS")
                guard = pipeline.add_rows("advance_lanes", moves)
                loading.ask(pipeline)
            return {lane for (lane,) in guard.rows}, loading.loaded()

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
        asked = [(_attributed_tenant(record), record.event_id) for record in records]
        with translated(), self._pipeline as pipeline:
            accepted = pipeline.add_rows("recall_accepted", asked)
            others = pipeline.add_rows("recall_outcomes", asked)
        outcomes: dict[int, Outcome] = {event_id: ACCEPTED for (event_id,) in accepted.rows}
        outcomes |= {row.event_id: outcome_of_row(row) for row in map(OutcomeRow._make, others.rows)}
        return [recalled(record, outcomes) for record in records]

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
                    ledger_row(each.event_id, each.event)
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
        sent: list[tuple[str, int, Answer]] = []
        with translated(), self._pipeline as pipeline:

            def write(statement: str, rows: Sequence[Row]) -> None:
                if rows:
                    sent.append((statement, len(rows), pipeline.add_rows(statement, rows)))

            yield write
        for statement, expected, answer in sent:
            if answer.count != expected:
                raise LaneStoppedError(
                    f"{statement} wrote {answer.count} of {expected} rows: the tables are ahead of their position; run "
                    "`core-tables verify`"
                )

    def commit(self, applied: Mapping[int, int]) -> bool:
        """Commit the batch, and wake whoever waits for an outcome in lanes that are applied to these positions now.

        An error leaves the result unknown: reopen the lanes, never commit again. Return whether the wake-up was sent, which
        is a transaction of its own: inside of this one it would hold a global lock over the commit's fsync.
        """
        with translated():
            committed = Answer()
            try:
                with self._pipeline as pipeline:
                    committed = pipeline.command(b"COMMIT")
                    if applied:
                        pipeline.add_rows("notify_lanes", [(f"{lane}:{at}",) for lane, at in applied.items()])
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

    def _rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql(statement), parameters, binary=True).fetchall()


def state_rows(changed: Iterable[tuple[WorkOrder | None, WorkOrder]]) -> Iterator[tuple[str, list[Row]]]:
    """What to write where when work orders change from one state to another: (statement, rows), in order.

    Most events leave fields, prompts and origin as they were: such a record's row is updated without them, for half the price.
    """
    pairs = list(changed)
    whole: list[Row] = []
    moved: list[Row] = []
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
    return decided_request(record, record.content, ACCEPTED).tenant_id


def recalled(record: Record, outcomes: Mapping[int, Outcome]) -> Decided:
    """What was decided about a record that is folded, by the outcomes that are stored. Raises LaneStoppedError."""
    outcome = outcomes.get(record.event_id)
    if outcome is None:
        raise LaneStoppedError(
            f"record {record.event_id} of lane {lane_of(record.event_id)} is below applied but has no outcome; "
            "run `core-tables verify`"
        )
    if isinstance(record.content, Request):
        return decided_request(record, record.content, outcome)
    return Decided(record.event_id, record.content.tenant_id, None, outcome, record.broker_time, record.traceparent)


class _Loading:
    """The statements that load one batch: each runs only if the batch needs it, all in one round trip."""

    def __init__(self, records: Sequence[Record], known: Known) -> None:
        self.states: dict[WorkOrderKey, WorkOrder | None] = {}
        self.missing: list[WorkOrderKey] = []
        self.correlations: set[tuple[str, str]] = set()
        events = loadable_events(records)
        for event in events:
            self._need(event, known)
        self.keys = unsure_keys(events, known)
        self.attempts = named_attempts(events, self.states)
        self.asked: dict[str, Answer] = {}

    def _need(self, event: LedgerEvent, known: Known) -> None:
        key = (event.tenant_id, event.work_order_id)
        found = known.get(key)
        if found is not None:
            self.states[key] = found.state
            return
        if key not in self.states:
            self.states[key] = None
            self.missing.append(key)
        self.correlations.add((event.tenant_id, str(event.correlation_id)))

    def ask(self, pipeline: Pipeline) -> None:
        """Send the statements; none if all is in memory, as it is in most batches of a steady load."""
        asked: list[tuple[str, Iterable[tuple[Any, ...]]]] = [
            ("load_current", self.missing),
            ("load_active_leases", self.missing),
            ("load_open_attempts", self.missing),
            ("load_attempts", self.attempts),
            ("find_first_events", self.keys),
            ("find_correlation_owners", self.correlations),
        ]
        for statement, keys in asked:
            rows = sorted(keys)
            if rows:
                self.asked[statement] = pipeline.add_rows(statement, rows)

    def loaded(self) -> Loaded:
        """What came back, once the pipeline has ended."""
        for current in map(CurrentRow._make, self._rows("load_current")):
            self.states[current.key] = state_of_row(current)
        for lease in map(LeaseRow._make, self._rows("load_active_leases")):
            self._update((lease.tenant_id, lease.work_order_id), lease=lease_of_row(lease))
        attempts = (*self._rows("load_open_attempts"), *self._rows("load_attempts"))
        for attempt in map(AttemptRow._make, attempts):
            self._add_attempt(attempt)
        firsts = {
            (tenant_id, work_order_id, idempotency_key): First(event_id, payload_from_json(event_type, payload))
            for tenant_id, work_order_id, idempotency_key, event_id, event_type, payload in self._rows(
                "find_first_events"
            )
        }
        owners = {
            (tenant_id, int(correlation_id)): work_order_id
            for tenant_id, correlation_id, work_order_id in self._rows("find_correlation_owners")
        }
        return Loaded(states=self.states, firsts=firsts, owners=owners)

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        answer = self.asked.get(statement)
        return [] if answer is None else answer.rows

    def _update(self, key: WorkOrderKey, **parts: Any) -> None:
        state = self.states[key]
        if state is not None:
            self.states[key] = replace(state, **parts)

    def _add_attempt(self, row: AttemptRow) -> None:
        key = (row.tenant_id, row.work_order_id)
        state = self.states[key]
        if state is not None:
            name, attempt = attempt_of_row(row)
            self.states[key] = replace(state, attempts={**state.attempts, name: attempt})
