"""The events and work orders that rows hold; the reverse of rows.py."""

from core_tables.projection.fold.pending import PendingRecord
from core_tables.projection.fold.work_order import (
    ActiveStep,
    Approval,
    Attempt,
    AttemptKey,
    Collected,
    Identity,
    Last,
    Lease,
    Origin,
    WorkOrder,
)
from core_tables.projection.postgres.row_types import (
    AttemptRow,
    CurrentRow,
    LeaseRow,
    LedgerRow,
    OutcomeRow,
    PendingRow,
)
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.json_form import payload_from_json
from core_tables.schemas.outcomes import Refused, Replayed


def event_of_row(row: LedgerRow) -> LedgerEvent:
    """The event of a row of the ledger."""
    return LedgerEvent(
        schema_version=row.schema_version,
        created_at=row.created_at,
        tenant_id=row.tenant_id,
        work_order_id=row.work_order_id,
        correlation_id=int(row.correlation_id),
        turn_id=row.turn_id,
        event_type=row.event_type,
        work_order_status=row.work_order_status,
        reason_code=row.reason_code,
        expected_last_event_id=row.expected_last_event_id,
        step_id=row.step_id,
        step_input_hash=row.step_input_hash,
        lease_owner_id=row.lease_owner_id,
        lease_token_hash=row.lease_token_hash,
        lease_expires_at=row.lease_expires_at,
        idempotency_key=row.idempotency_key,
        payload=payload_from_json(row.event_type, row.payload),
    )


def outcome_of_row(row: OutcomeRow) -> Replayed | Refused:
    """The outcome that a row of the outcomes holds."""
    if row.first_event_id is not None:
        return Replayed(first_event_id=row.first_event_id, request_differs=bool(row.request_differs))
    return refusal_of_row(row)


def refusal_of_row(row: OutcomeRow) -> Refused:
    """The refusal that a row of the outcomes holds."""
    return Refused(reason_code=row.reason_code, field=row.field, sentence=row.sentence or "")


def state_of_row(row: CurrentRow) -> WorkOrder:
    """The state that a current record holds; its attempts and lease lie in rows of their own."""
    return WorkOrder(
        identity=Identity(
            tenant_id=row.tenant_id,
            work_order_id=row.work_order_id,
            correlation_id=int(row.correlation_id),
            created_at=row.created_at,
        ),
        last=Last(
            turn_id=row.turn_id,
            work_order_status=row.work_order_status,
            last_event_id=row.last_event_id,
            last_reason_code=row.last_reason_code,
            last_updated_at=row.last_updated_at,
            step_id=row.step_id,
            step_input_hash=row.step_input_hash,
            lease_owner_id=row.lease_owner_id,
            lease_token_hash=row.lease_token_hash,
            lease_expires_at=row.lease_expires_at,
        ),
        origin=Origin(
            requester_user_id=row.requester_user_id,
            requester_speaker_id=row.requester_speaker_id,
            device_id=row.device_id,
            session_id=row.session_id,
            process_id=row.process_id,
            blueprint_version=row.blueprint_version,
            intent_type=row.intent_type,
        ),
        collected=Collected(
            fields=row.fields_json,
            missing_fields=tuple(row.missing_fields_json),
            asked_fields=row.asked_fields_json,
            resolved_fields=row.resolved_fields_json,
            prompt_dedupe_keys=tuple(row.prompt_dedupe_keys_json),
        ),
        confirmation_state=row.confirmation_state,
        approval=Approval(
            pending=row.external_approval_pending,
            request_id=row.external_approval_request_id,
            target_user_id=row.external_approval_target_user_id,
            expires_at=row.external_approval_expires_at,
            decision=row.external_approval_decision,
        ),
        active=ActiveStep(
            active_step_id=row.active_step_id,
            active_step_attempt=row.active_step_attempt,
            timeout_ms_active=row.timeout_ms_active,
            max_retries_active=row.max_retries_active,
            retry_backoff_ms_active=row.retry_backoff_ms_active,
            next_retry_at=row.next_retry_at,
            last_failure_reason_code=row.last_failure_reason_code,
        ),
        closed_at=row.closed_at,
    )


def attempt_of_row(row: AttemptRow) -> tuple[AttemptKey, Attempt]:
    """The key and value of an attempt's row."""
    attempt = Attempt(
        status=row.status,
        timeout_ms=row.timeout_ms,
        max_retries=row.max_retries,
        retry_backoff_ms=row.retry_backoff_ms,
        next_retry_at=row.next_retry_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        reason_code=row.reason_code,
        idempotency_key=row.idempotency_key,
    )
    return (row.step_id, row.attempt_index), attempt


def lease_of_row(row: LeaseRow) -> Lease:
    """The lease of its row."""
    return Lease(
        granted_event_id=row.granted_event_id,
        lease_state=row.lease_state,
        lease_owner_id=row.lease_owner_id,
        lease_token_hash=row.lease_token_hash,
        acquired_at=row.acquired_at,
        renewed_at=row.renewed_at,
        lease_expires_at=row.lease_expires_at,
        released_at=row.released_at,
    )


def pending_of_row(row: PendingRow) -> PendingRecord | None:
    """The record of a pending list's row, if it has one."""
    if row.work_order_id is None:
        return None
    return PendingRecord(
        work_order_id=row.work_order_id,
        correlation_id=row.correlation_id,
        work_order_status=row.work_order_status,
        intent_type=row.intent_type,
        process_id=row.process_id,
        missing_fields=row.missing_fields_json,
        external_approval_pending=row.external_approval_pending,
        last_event_id=row.last_event_id,
        last_updated_at=row.last_updated_at,
    )
