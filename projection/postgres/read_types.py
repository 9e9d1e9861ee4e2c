"""What the reads of work orders return: flat records, whose names are the contract's (section 5).

Times are nanoseconds since 1970. tests/test_columns.py holds them to the columns of the tables.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import asdict

from core_tables.projection.fold.work_order import Asked, WorkOrder
from core_tables.projection.postgres.row_types import (
    AttemptRow,
    ClosedRow,
    CurrentRow,
    DueAttemptRow,
    LeaseRow,
    WholeRow,
)
from core_tables.projection.postgres.rows import current_row
from core_tables.schemas.events import FieldValue
from core_tables.schemas.vocabulary import AttemptStatus, ConfirmationState, LeaseState, WorkOrderStatus


class CurrentRecord(Struct, frozen=True, kw_only=True):
    """The current record of a work order: a row of work_orders_current."""

    tenant_id: str
    work_order_id: str
    correlation_id: int
    turn_id: int
    work_order_status: WorkOrderStatus
    last_event_id: int
    last_reason_code: int
    last_updated_at: int
    step_id: str | None
    step_input_hash: str | None
    lease_owner_id: str | None
    lease_token_hash: str | None
    lease_expires_at: int | None
    requester_user_id: str | None
    requester_speaker_id: str | None
    device_id: str | None
    session_id: str | None
    process_id: str | None
    blueprint_version: str | None
    intent_type: str | None
    fields_json: Mapping[str, FieldValue]
    missing_fields_json: tuple[str, ...]
    asked_fields_json: Mapping[str, Asked]
    resolved_fields_json: Mapping[str, FieldValue]
    prompt_dedupe_keys_json: tuple[str, ...]
    confirmation_state: ConfirmationState | None
    external_approval_pending: bool
    external_approval_request_id: str | None
    external_approval_target_user_id: str | None
    external_approval_expires_at: int | None
    external_approval_decision: str | None
    active_step_id: str | None
    active_step_attempt: int | None
    timeout_ms_active: int | None
    max_retries_active: int | None
    retry_backoff_ms_active: int | None
    next_retry_at: int | None
    last_failure_reason_code: int | None
    created_at: int
    closed_at: int | None


class ClosedWorkOrder(CurrentRecord, frozen=True, kw_only=True):
    """A work order that the event `closing_event_id` closed, as it is now: it may have been opened again since."""

    closing_event_id: int


class StepAttempt(Struct, frozen=True, kw_only=True):
    """An attempt of a step: a row of work_order_step_attempts. Reason and key are those of the last event that changed it."""

    tenant_id: str
    work_order_id: str
    step_id: str
    attempt_index: int
    status: AttemptStatus
    timeout_ms: int | None
    max_retries: int | None
    retry_backoff_ms: int | None
    next_retry_at: int | None
    started_at: int | None
    finished_at: int | None
    reason_code: int
    idempotency_key: str | None


class DueRetry(StepAttempt, frozen=True, kw_only=True):
    """An attempt whose retry is due, and why its work order failed last, if it ever did."""

    last_failure_reason_code: int | None


class TimedOutStep(StepAttempt, frozen=True, kw_only=True):
    """An attempt that still runs, though its timeout was reached at `timed_out_at` (ns)."""

    timed_out_at: int


class GrantedLease(Struct, frozen=True, kw_only=True):
    """A lease: a row of work_order_leases, named by the event that granted it; `renewed_at` is when it was last renewed."""

    tenant_id: str
    work_order_id: str
    granted_event_id: int
    lease_state: LeaseState
    lease_owner_id: str
    lease_token_hash: str
    acquired_at: int
    renewed_at: int | None
    lease_expires_at: int
    released_at: int | None


class WholeWorkOrder(CurrentRecord, frozen=True, kw_only=True):
    """A current record with all attempts of its steps and its last lease, all as of the event `last_event_id`."""

    attempts: tuple[StepAttempt, ...]
    last_lease: GrantedLease | None


_R = TypeVar("_R", bound=Struct)


def current_record(row: CurrentRow) -> CurrentRecord:
    """The record of a row of work_orders_current."""
    return _record(CurrentRecord, row)


def record_of_state(state: WorkOrder) -> CurrentRecord:
    """The record of a state that was folded."""
    return current_record(current_row(state))


def closed_work_order(row: ClosedRow) -> ClosedWorkOrder:
    """The record of a row of read_closed.sql."""
    return _record(ClosedWorkOrder, row, closing_event_id=row.closing_event_id)


def whole_work_order(row: WholeRow) -> WholeWorkOrder:
    """The record of a row of read_work_order.sql."""
    lease = None if row.last_lease is None else granted_lease(LeaseRow(**row.last_lease))
    attempts = tuple(step_attempt(AttemptRow(**columns)) for columns in row.attempts)
    return _record(WholeWorkOrder, row, attempts=attempts, last_lease=lease)


def step_attempt(row: AttemptRow) -> StepAttempt:
    """The record of a row of work_order_step_attempts."""
    return _made(StepAttempt, row)


def due_retry(row: DueAttemptRow) -> DueRetry:
    """The record of an attempt that is due again."""
    return _made(DueRetry, row)


def timed_out_step(row: DueAttemptRow) -> TimedOutStep:
    """The record of an attempt that was due to end."""
    return _made(TimedOutStep, row, timed_out_at=row.due_at or 0)


def granted_lease(row: LeaseRow) -> GrantedLease:
    """The record of a row of work_order_leases."""
    return _made(GrantedLease, row)


def record_json(record: CurrentRecord) -> dict[str, Any]:
    """A current record as JSON has it: its correlation_id is text, since a JSON number does not hold it."""
    return {**asdict(record), "correlation_id": str(record.correlation_id)}


def _record(kind: type[_R], row: CurrentRow, **values: Any) -> _R:
    return _made(
        kind,
        row,
        correlation_id=int(row.correlation_id),
        missing_fields_json=tuple(row.missing_fields_json),
        prompt_dedupe_keys_json=tuple(row.prompt_dedupe_keys_json),
        **values,
    )


def _made(kind: type[_R], row: Struct, **values: Any) -> _R:
    """A record with the columns of a row, and what is not a column of it, or has another form."""
    columns = {name: getattr(row, name) for name in kind.__struct_fields__ if name not in values}
    return kind(**columns, **values)
