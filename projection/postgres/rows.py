"""Events and work orders as rows: plain tuples, in the order of the columns of the statements that write them."""

from collections.abc import Mapping
from typing import Any, assert_never

from core_tables.projection.fold.values import Decided
from core_tables.projection.fold.work_order import Attempt, AttemptKey, Identity, Lease, WorkOrder
from core_tables.projection.postgres.row_types import CurrentRow
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.json_form import canonical_json, payload_to_json
from core_tables.schemas.outcomes import Accepted, Refused, Replayed
from core_tables.schemas.reasons import IDEMPOTENCY_REPLAY

Row = tuple[Any, ...]


def _json(value: Mapping[str, Any] | tuple[str, ...]) -> str:
    if not value:
        return "[]" if isinstance(value, tuple) else "{}"
    return canonical_json(value).decode()


def ledger_row(event_id: int, event: LedgerEvent) -> Row:
    """The row of insert_ledger.sql."""
    return (
        event.tenant_id,
        event_id,
        event.schema_version,
        event.created_at,
        event.work_order_id,
        str(event.correlation_id),
        event.turn_id,
        event.event_type,
        event.work_order_status,
        event.reason_code,
        event.expected_last_event_id,
        event.step_id,
        event.step_input_hash,
        event.lease_owner_id,
        event.lease_token_hash,
        event.lease_expires_at,
        event.idempotency_key,
        "{}" if event.payload is None else _json(payload_to_json(event.payload)),
    )


def outcome_row(decided: Decided) -> Row:
    """The row of insert_outcomes.sql of a record that was not accepted."""
    work_order_id = None if decided.event is None else decided.event.work_order_id
    head = (decided.tenant_id, decided.event_id, work_order_id)
    match outcome := decided.outcome:
        case Replayed():
            return (*head, "REPLAYED", IDEMPOTENCY_REPLAY, None, None, outcome.first_event_id, outcome.payload_differs)
        case Refused():
            return (*head, "REFUSED", outcome.reason_code, outcome.field, outcome.sentence, None, None)
        case Accepted():
            raise AssertionError("an accepted record has a ledger row")
        case _:
            assert_never(outcome)


def current_row(state: WorkOrder) -> Row:
    """The row of upsert_current.sql."""
    identity, last, origin, collected = state.identity, state.last, state.origin, state.collected
    approval, active = state.approval, state.active
    return (
        identity.tenant_id,
        identity.work_order_id,
        str(identity.correlation_id),
        last.turn_id,
        last.work_order_status,
        last.last_event_id,
        last.last_reason_code,
        last.last_updated_at,
        last.step_id,
        last.step_input_hash,
        last.lease_owner_id,
        last.lease_token_hash,
        last.lease_expires_at,
        origin.requester_user_id,
        origin.requester_speaker_id,
        origin.device_id,
        origin.session_id,
        origin.process_id,
        origin.blueprint_version,
        origin.intent_type,
        _json(collected.fields),
        _json(collected.missing_fields),
        _json(collected.asked_fields),
        _json(collected.resolved_fields),
        _json(collected.prompt_dedupe_keys),
        state.confirmation_state,
        approval.pending,
        approval.request_id,
        approval.target_user_id,
        approval.expires_at,
        active.active_step_id,
        active.active_step_attempt,
        active.timeout_ms_active,
        active.max_retries_active,
        active.retry_backoff_ms_active,
        active.next_retry_at,
        active.last_failure_reason_code,
        identity.created_at,
        state.closed_at,
    )


def moved_row(state: WorkOrder) -> Row:
    """The row of update_current.sql: what events change that leave fields, prompts and origin as they were."""
    identity, last, approval, active = state.identity, state.last, state.approval, state.active
    return (
        identity.tenant_id,
        identity.work_order_id,
        last.turn_id,
        last.work_order_status,
        last.last_event_id,
        last.last_reason_code,
        last.last_updated_at,
        last.step_id,
        last.step_input_hash,
        last.lease_owner_id,
        last.lease_token_hash,
        last.lease_expires_at,
        state.confirmation_state,
        approval.pending,
        approval.request_id,
        approval.target_user_id,
        approval.expires_at,
        active.active_step_id,
        active.active_step_attempt,
        active.timeout_ms_active,
        active.max_retries_active,
        active.retry_backoff_ms_active,
        active.next_retry_at,
        active.last_failure_reason_code,
        state.closed_at,
    )


def work_order_json(state: WorkOrder) -> dict[str, Any]:
    """The current record as JSON: the columns of work_orders_current, JSON columns as values."""
    collected = state.collected
    return CurrentRow._make(current_row(state))._asdict() | {
        "fields_json": collected.fields,
        "missing_fields_json": collected.missing_fields,
        "asked_fields_json": collected.asked_fields,
        "resolved_fields_json": collected.resolved_fields,
        "prompt_dedupe_keys_json": collected.prompt_dedupe_keys,
    }


def attempt_rows(state: WorkOrder, before: WorkOrder | None = None) -> list[Row]:
    """The rows of upsert_attempts.sql, without those that are as they were before."""
    if before is not None and before.attempts is state.attempts:
        return []
    old = {} if before is None else before.attempts
    return [_attempt_row(state.identity, key, row) for key, row in state.attempts.items() if old.get(key) != row]


def _attempt_row(identity: Identity, key: AttemptKey, attempt: Attempt) -> Row:
    step_id, attempt_index = key
    return (
        identity.tenant_id,
        identity.work_order_id,
        step_id,
        attempt_index,
        attempt.status,
        attempt.timeout_ms,
        attempt.max_retries,
        attempt.retry_backoff_ms,
        attempt.next_retry_at,
        attempt.started_at,
        attempt.finished_at,
        attempt.reason_code,
        attempt.idempotency_key,
    )


def lease_rows(state: WorkOrder, before: WorkOrder | None = None) -> list[Row]:
    """The rows of upsert_leases.sql, oldest grant first, without those that are as they were before."""
    if before is not None and before.lease is state.lease and before.closed_leases is state.closed_leases:
        return []
    leases = state.closed_leases if state.lease is None else (*state.closed_leases, state.lease)
    old = () if before is None else (before.lease, *before.closed_leases)
    return [_lease_row(state.identity, lease) for lease in leases if lease not in old]


def _lease_row(identity: Identity, lease: Lease) -> Row:
    return (
        identity.tenant_id,
        identity.work_order_id,
        lease.granted_event_id,
        lease.lease_state,
        lease.lease_owner_id,
        lease.lease_token_hash,
        lease.acquired_at,
        lease.expires_at,
        lease.ended_at,
    )
