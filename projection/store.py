"""The worker's side of Postgres: one guarded transaction a batch (DESIGN, "Positions and fences", steps 2 to 4)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from core_tables.projection.arrays import columns
from core_tables.projection.database import Connection, translated
from core_tables.projection.decide import First, Request
from core_tables.projection.fold import (
    Decided,
    Folded,
    Known,
    Loaded,
    Record,
    WorkOrderKey,
    decided_request,
    loadable,
    named_attempts,
    unsure_keys,
)
from core_tables.projection.rows import (
    Row,
    attempt_of_row,
    attempt_rows,
    current_row,
    lease_of_row,
    lease_rows,
    ledger_row,
    moved_row,
    outcome_of_row,
    outcome_row,
    state_of_row,
)
from core_tables.projection.statements import sql
from core_tables.projection.work_order import WorkOrder
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import lane_of
from core_tables.schemas.json_form import payload_from_json
from core_tables.schemas.outcomes import ACCEPTED, Accepted, Outcome
from core_tables.schemas.reasons import LaneStoppedError
from core_tables.schemas.wire import Unreadable


class LanePosition(NamedTuple):
    """A row of os_core.lanes; offsets are "next to do"."""

    lane: int
    applied: int
    audited: int
    revision: int
    fold_version: int


class TopicRow(NamedTuple):
    """A row of os_core.work_order_topics."""

    first_lane: int
    topic: str
    topic_id: str
    cluster_id: str
    partitions: int
    audit_topic: str
    audit_topic_id: str


class Move(NamedTuple):
    """What a batch does to a lane: from `applied` at `revision` to `reached`; below `audited` all is audited."""

    lane: int
    applied: int
    revision: int
    reached: int
    audited: int


class Store:
    """Reads positions and states, writes what a batch changed. One connection, one thread."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def topics(self) -> list[TopicRow]:
        """The topics of the ledger, oldest first."""
        with translated(), self.connection.transaction():
            return [TopicRow(*row) for row in self._rows("load_topics")]

    def lanes(self, lanes: Sequence[int]) -> dict[int, LanePosition]:
        """The positions of the lanes asked for; a lane without a row is left out."""
        with translated(), self.connection.transaction():
            return {row[0]: LanePosition(*row) for row in self._rows("load_lanes", list(lanes))}

    def raise_floors(self, floors: Mapping[int, int]) -> None:
        """Write the audit floors of idle lanes."""
        with translated(), self.connection.transaction():
            self.connection.execute(sql("raise_floors"), (list(floors), list(floors.values())))

    def notify(self, applied: Mapping[int, int]) -> None:
        """Wake whoever waits for an outcome in these lanes."""
        with translated():
            self.connection.autocommit = True  # one round trip; BEGIN and COMMIT would be two more
            try:
                self.connection.execute(sql("notify_lanes"), ([f"{lane}:{at}" for lane, at in applied.items()],))
            finally:
                if not self.connection.closed:
                    self.connection.autocommit = False

    def begin(self, moves: Sequence[Move]) -> set[int]:
        """Open the batch's transaction with its guard; return the lanes that are where they were believed to be."""
        parameters = [list(column) for column in zip(*moves, strict=True)]
        with translated():
            with self.connection.pipeline():  # BEGIN and guard in one round trip
                cursor: Any = self.connection.execute(sql("advance_lanes"), parameters, binary=True)
            return {row[0] for row in cursor.fetchall()}

    def load(self, records: Sequence[Record], known: Known) -> Loaded:
        """What the fold must know about a batch, inside its transaction and in one round trip; `known` is in memory."""
        loading = _Loading(self.connection, records, known)
        with translated():
            return loading.run()

    def recall(self, records: Sequence[Record]) -> list[Decided]:
        """The outcomes of records below `applied`, in the batch's transaction. Raises LaneStoppedError."""
        tenants = [_attributed_tenant(record) for record in records]
        ids = [record.position_id for record in records]
        with translated(), self.connection.pipeline():
            accepted = self.connection.execute(sql("recall_accepted"), (tenants, ids), binary=True)
            others = self.connection.execute(sql("recall_outcomes"), (tenants, ids), binary=True)
            outcomes: dict[int, Outcome] = {row[0]: ACCEPTED for row in accepted.fetchall()}  # type: ignore[misc]
            outcomes |= {row[0]: outcome_of_row(row[1:]) for row in others.fetchall()}  # type: ignore[misc]
        return [_recalled(record, outcomes) for record in records]

    def write(self, folded: Folded) -> None:
        """Write ledger, outcomes, current, attempts and leases of a batch, in its transaction and one round trip."""
        accepted = [
            ledger_row(decided.position_id, decided.event)
            for decided in folded.decided
            if isinstance(decided.outcome, Accepted) and decided.event is not None
        ]
        others = [outcome_row(decided) for decided in folded.decided if not isinstance(decided.outcome, Accepted)]
        self.write_rows(
            [("insert_ledger", accepted), ("insert_outcomes", others), *state_rows(folded.changed.values())]
        )

    def write_rows(self, writes: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """Run insert statements in one round trip; every row must be written, or something else writes our tables."""
        with translated():
            with self.connection.pipeline():
                cursors = [
                    (
                        statement,
                        len(rows),
                        self.connection.execute(sql(statement), columns(statement, rows)),
                    )
                    for statement, rows in writes
                    if rows
                ]
            for statement, expected, cursor in cursors:
                if cursor.rowcount != expected:
                    raise LaneStoppedError(
                        f"{statement} wrote {cursor.rowcount} of {expected} rows: the tables are ahead of their "
                        "position; run `core-tables verify`"
                    )

    def commit(self) -> None:
        """Commit the batch. An error leaves the result unknown: reopen the lanes, never commit again."""
        with translated():
            self.connection.commit()

    def rollback(self) -> None:
        """Give the batch up."""
        with translated():
            self.connection.rollback()

    def _rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql(statement), parameters, binary=True).fetchall()


def state_rows(changed: Iterable[tuple[WorkOrder | None, WorkOrder]]) -> list[tuple[str, list[Row]]]:
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
    return [
        ("upsert_current", whole),
        ("update_current", moved),
        ("upsert_attempts", [row for before, after in pairs for row in attempt_rows(after, before)]),
        ("upsert_leases", [row for before, after in pairs for row in lease_rows(after, before)]),
    ]


def _attributed_tenant(record: Record) -> str:
    if isinstance(record.content, Unreadable):
        return record.content.tenant_id
    return decided_request(record, record.content, ACCEPTED).tenant_id


def _recalled(record: Record, outcomes: Mapping[int, Outcome]) -> Decided:
    outcome = outcomes.get(record.position_id)
    if outcome is None:
        raise LaneStoppedError(
            f"record {record.position_id} of lane {lane_of(record.position_id)} is below applied but has no outcome; "
            "run `core-tables verify`"
        )
    if isinstance(record.content, Request):
        return decided_request(record, record.content, outcome)
    return Decided(record.position_id, record.content.tenant_id, None, outcome, record.broker_time, record.traceparent)


class _Loading:
    """The statements that load one batch: each runs only if the batch needs it, all in one round trip."""

    def __init__(self, connection: Connection, records: Sequence[Record], known: Known) -> None:
        self.connection = connection
        self.states: dict[WorkOrderKey, WorkOrder | None] = {}
        self.keys = unsure_keys(records, known)
        self.missing: list[WorkOrderKey] = []
        self.correlations: set[tuple[str, str]] = set()
        for record in records:
            content = record.content
            if not isinstance(content, Unreadable) and loadable(content):
                self._need(content.event, known)
        self.attempts = named_attempts(records, self.states)

    def _need(self, event: LedgerEvent, known: Known) -> None:
        key = (event.tenant_id, event.work_order_id)
        if key not in self.states:
            held = known.get(key)
            self.states[key] = None if held is None else held[0]
            if held is None:
                self.missing.append(key)
        if self.states[key] is None:
            self.correlations.add((event.tenant_id, str(event.correlation_id)))

    def run(self) -> Loaded:
        if not (self.missing or self.attempts or self.keys or self.correlations):
            return Loaded(self.states, {}, {})  # all is in memory, as in most batches of a steady load: no round trip
        with self.connection.pipeline():
            current = self._ask("load_current", self.missing)
            leases = self._ask("load_active_leases", self.missing)
            opened = self._ask("load_open_attempts", self.missing)
            named = self._ask("load_attempts", self.attempts)
            firsts = self._ask("find_first_events", self.keys)
            owners = self._ask("find_correlation_owners", self.correlations)
            for row in _fetch(current):
                self.states[row[0], row[1]] = state_of_row(row)
            for row in _fetch(leases):
                self._update(row, lease=lease_of_row(row))
            for row in (*_fetch(opened), *_fetch(named)):
                self._add_attempt(row)
            found = {
                (row[0], row[1], row[2]): First(row[3], payload_from_json(row[4], row[5])) for row in _fetch(firsts)
            }
            bound = {(row[0], int(row[1])): row[2] for row in _fetch(owners)}
        return Loaded(self.states, found, bound)

    def _ask(self, statement: str, keys: Iterable[tuple[Any, ...]]) -> Any:
        rows = sorted(keys)
        return self.connection.execute(sql(statement), columns(statement, rows), binary=True) if rows else None

    def _update(self, row: Sequence[Any], **parts: Any) -> None:
        state = self.states[row[0], row[1]]
        if state is not None:
            self.states[row[0], row[1]] = state._replace(**parts)

    def _add_attempt(self, row: Sequence[Any]) -> None:
        state = self.states[row[0], row[1]]
        if state is not None:
            key, attempt = attempt_of_row(row)
            self.states[row[0], row[1]] = state._replace(attempts={**state.attempts, key: attempt})


def _fetch(cursor: Any) -> list[tuple[Any, ...]]:
    return [] if cursor is None else cursor.fetchall()
