"""What a batch loads: the rows that the fold must know, asked for in the round trip that opens its transaction."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from core_tables.projection.fold.needs import Known, loadable_events, named_attempts, unsure_keys
from core_tables.projection.fold.values import First, Loaded, Record, WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.projection.postgres.from_rows import attempt_of_row, event_of_row, lease_of_row, state_of_row
from core_tables.projection.postgres.keys import AttemptName, Correlation, IdempotencyKey, WorkOrderName
from core_tables.projection.postgres.pipeline import Answer, Pipeline
from core_tables.projection.postgres.row_types import AttemptRow, CorrelationOwner, CurrentRow, LeaseRow, LedgerRow
from core_tables.schemas.events import LedgerEvent


class BatchLoading:
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
        self.current: Answer[CurrentRow] = Answer()
        self.leases: Answer[LeaseRow] = Answer()
        self.open_attempts: Answer[AttemptRow] = Answer()
        self.named_attempts: Answer[AttemptRow] = Answer()
        self.firsts: Answer[LedgerRow] = Answer()
        self.owners: Answer[CorrelationOwner] = Answer()

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
        if self.missing:
            missing = [WorkOrderName(*key) for key in sorted(self.missing)]
            self.current = pipeline.fetch(CurrentRow, "load_current", missing)
            self.leases = pipeline.fetch(LeaseRow, "load_active_leases", missing)
            self.open_attempts = pipeline.fetch(AttemptRow, "load_open_attempts", missing)
        if self.attempts:
            attempts = [AttemptName(*key) for key in sorted(self.attempts)]
            self.named_attempts = pipeline.fetch(AttemptRow, "load_attempts", attempts)
        if self.keys:
            keys = [IdempotencyKey(*key) for key in sorted(self.keys)]
            self.firsts = pipeline.fetch(LedgerRow, "find_first_events", keys)
        if self.correlations:
            correlations = [Correlation(*key) for key in sorted(self.correlations)]
            self.owners = pipeline.fetch(CorrelationOwner, "find_correlation_owners", correlations)

    def loaded(self) -> Loaded:
        """What came back, once the pipeline has ended."""
        for current in self.current.rows:
            self.states[current.key] = state_of_row(current)
        for lease in self.leases.rows:
            self._update((lease.tenant_id, lease.work_order_id), lease=lease_of_row(lease))
        for attempt in (*self.open_attempts.rows, *self.named_attempts.rows):
            self._add_attempt(attempt)
        firsts = {
            (row.tenant_id, row.work_order_id, row.idempotency_key): First(row.work_order_event_id, event_of_row(row))
            for row in self.firsts.rows
            if row.idempotency_key is not None
        }
        owners = {(row.tenant_id, int(row.correlation_id)): row.work_order_id for row in self.owners.rows}
        return Loaded(states=self.states, firsts=firsts, owners=owners)

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
