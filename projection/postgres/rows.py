"""Events and work orders as the rows that hold them, column by column; from_rows.py is the reverse."""

from typing import Final, assert_never

from msgspec.structs import replace

from core_tables.projection.fold.values import Decided
from core_tables.projection.fold.work_order import (
    Attempt,
    AttemptKey,
    Collected,
    Lease,
    Origin,
    WorkOrder,
)
from core_tables.projection.postgres.row_types import AttemptRow, CurrentRow, LeaseRow, LedgerRow, OutcomeRow
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.json_form import payload_to_json
from core_tables.schemas.outcomes import Accepted, Refused, Replayed
from core_tables.schemas.reasons import IDEMPOTENCY_REPLAY
from core_tables.schemas.vocabulary import MAX_I64, NS_PER_MS, WorkOrderStatus

_NO_ORIGIN: Final = Origin()
_NOTHING_COLLECTED: Final = Collected()


def ledger_row(event_id: int, event: LedgerEvent, status_before: WorkOrderStatus | None) -> LedgerRow:
    """The row of an accepted event."""
    return LedgerRow(
        tenant_id=event.tenant_id,
        work_order_event_id=event_id,
        schema_version=event.schema_version,
        created_at=event.created_at,
        work_order_id=event.work_order_id,
        correlation_id=str(event.correlation_id),
        turn_id=event.turn_id,
        event_type=event.event_type,
        status_before=status_before,
        work_order_status=event.work_order_status,
        reason_code=event.reason_code,
        expected_last_event_id=event.expected_last_event_id,
        step_id=event.step_id,
        step_input_hash=event.step_input_hash,
        lease_owner_id=event.lease_owner_id,
        lease_token_hash=event.lease_token_hash,
        lease_expires_at=event.lease_expires_at,
        idempotency_key=event.idempotency_key,
        payload={} if event.payload is None else payload_to_json(event.payload),
    )


def outcome_row(decided: Decided) -> OutcomeRow:
    """The row of a record that was not accepted."""
    replay, refusal = None, None
    match outcome := decided.outcome:
        case Replayed():
            replay = outcome
        case Refused():
            refusal = outcome
        case Accepted():
            raise AssertionError("an accepted record has a ledger row")
        case _:
            assert_never(outcome)
    event = decided.event
    return OutcomeRow(
        tenant_id=decided.tenant_id,
        event_id=decided.event_id,
        work_order_id=None if event is None else event.work_order_id or None,
        event_type=None if event is None else event.event_type,
        correlation_id=None if event is None else str(event.correlation_id),
        turn_id=None if event is None else event.turn_id,
        idempotency_key=None if event is None else event.idempotency_key,
        created_at=None if event is None else event.created_at,
        outcome="REPLAYED" if refusal is None else "REFUSED",
        reason_code=IDEMPOTENCY_REPLAY if refusal is None else refusal.reason_code,
        field=None if refusal is None else refusal.field,
        sentence=None if refusal is None else refusal.sentence,
        first_event_id=None if replay is None else replay.first_event_id,
        request_differs=None if replay is None else replay.request_differs,
    )


def current_row(state: WorkOrder) -> CurrentRow:
    """The current record of a work order."""
    identity, last, origin, collected = state.identity, state.last, state.origin, state.collected
    approval, active = state.approval, state.active
    return CurrentRow(
        tenant_id=identity.tenant_id,
        work_order_id=identity.work_order_id,
        correlation_id=str(identity.correlation_id),
        turn_id=last.turn_id,
        work_order_status=last.work_order_status,
        last_event_id=last.last_event_id,
        last_reason_code=last.last_reason_code,
        last_updated_at=last.last_updated_at,
        step_id=last.step_id,
        step_input_hash=last.step_input_hash,
        lease_owner_id=last.lease_owner_id,
        lease_token_hash=last.lease_token_hash,
        lease_expires_at=last.lease_expires_at,
        requester_user_id=origin.requester_user_id,
        requester_speaker_id=origin.requester_speaker_id,
        device_id=origin.device_id,
        session_id=origin.session_id,
        process_id=origin.process_id,
        blueprint_version=origin.blueprint_version,
        intent_type=origin.intent_type,
        fields_json=collected.fields,
        missing_fields_json=collected.missing_fields,
        asked_fields_json=collected.asked_fields,
        resolved_fields_json=collected.resolved_fields,
        prompt_dedupe_keys_json=collected.prompt_dedupe_keys,
        confirmation_state=state.confirmation_state,
        external_approval_pending=approval.pending,
        external_approval_request_id=approval.request_id,
        external_approval_target_user_id=approval.target_user_id,
        external_approval_expires_at=approval.expires_at,
        external_approval_decision=approval.decision,
        active_step_id=active.active_step_id,
        active_step_attempt=active.active_step_attempt,
        timeout_ms_active=active.timeout_ms_active,
        max_retries_active=active.max_retries_active,
        retry_backoff_ms_active=active.retry_backoff_ms_active,
        next_retry_at=active.next_retry_at,
        last_failure_reason_code=active.last_failure_reason_code,
        created_at=identity.created_at,
        closed_at=state.closed_at,
    )


def moved_row(state: WorkOrder) -> CurrentRow:
    """The same without what update_current.sql leaves alone: the origin, and what was collected."""
    return current_row(replace(state, origin=_NO_ORIGIN, collected=_NOTHING_COLLECTED))


def attempt_rows(state: WorkOrder, before: WorkOrder | None = None) -> list[AttemptRow]:
    """The attempts of a work order, without those whose rows are as they were before."""
    due_changed = _due_changed(state, before)
    if before is not None and before.attempts is state.attempts and not due_changed:
        return []
    old = {} if before is None else before.attempts
    return [
        _attempt_row(state, key, row)
        for key, row in state.attempts.items()
        if old.get(key) != row or (due_changed and _attempt_due_at(row) is not None)
    ]


def _attempt_row(state: WorkOrder, key: AttemptKey, attempt: Attempt) -> AttemptRow:
    step_id, attempt_index = key
    return AttemptRow(
        tenant_id=state.identity.tenant_id,
        work_order_id=state.identity.work_order_id,
        step_id=step_id,
        attempt_index=attempt_index,
        status=attempt.status,
        timeout_ms=attempt.timeout_ms,
        max_retries=attempt.max_retries,
        retry_backoff_ms=attempt.retry_backoff_ms,
        next_retry_at=attempt.next_retry_at,
        started_at=attempt.started_at,
        finished_at=attempt.finished_at,
        reason_code=attempt.reason_code,
        idempotency_key=attempt.idempotency_key,
        due_at=_attempt_due_at(attempt) if state.closed_at is None else None,
    )


def _attempt_due_at(attempt: Attempt) -> int | None:
    """When somebody must act on an attempt of an open work order: at its retry, or at its timeout."""
    match attempt.status:
        case "SCHEDULED":
            return attempt.next_retry_at
        case "RUNNING" if attempt.started_at is not None and attempt.timeout_ms is not None:
            return min(attempt.started_at + attempt.timeout_ms * NS_PER_MS, MAX_I64)
    return None


def lease_rows(state: WorkOrder, before: WorkOrder | None = None) -> list[LeaseRow]:
    """The leases of a work order, oldest grant first, without those whose rows are as they were before."""
    due_changed = _due_changed(state, before)
    unchanged = before is not None and before.lease is state.lease and before.closed_leases is state.closed_leases
    if unchanged and not due_changed:
        return []
    leases = state.closed_leases if state.lease is None else (*state.closed_leases, state.lease)
    old = () if before is None else (before.lease, *before.closed_leases)
    return [
        _lease_row(state, lease)
        for lease in leases
        if lease not in old or (due_changed and lease.lease_state == "ACTIVE")
    ]


def _lease_row(state: WorkOrder, lease: Lease) -> LeaseRow:
    return LeaseRow(
        tenant_id=state.identity.tenant_id,
        work_order_id=state.identity.work_order_id,
        granted_event_id=lease.granted_event_id,
        lease_state=lease.lease_state,
        lease_owner_id=lease.lease_owner_id,
        lease_token_hash=lease.lease_token_hash,
        acquired_at=lease.acquired_at,
        renewed_at=lease.renewed_at,
        lease_expires_at=lease.lease_expires_at,
        released_at=lease.released_at,
        due_at=lease.lease_expires_at if lease.lease_state == "ACTIVE" and state.closed_at is None else None,
    )


def _due_changed(state: WorkOrder, before: WorkOrder | None) -> bool:
    """Whether a work order was closed, or opened again: then what is due changes in rows that no event changed."""
    return before is not None and (before.closed_at is None) != (state.closed_at is None)
