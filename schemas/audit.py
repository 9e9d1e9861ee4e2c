"""The audit event (contract, section 7): a pure function of a record and its outcome, and its encoding."""

import io
from typing import Any, Final, assert_never

import fastavro

from core_tables.schemas.audit_event_v1 import encode
from core_tables.schemas.avro_schema import AUDIT_SCHEMA, fingerprint_of, load_schema
from core_tables.schemas.events import (
    AuditEvent,
    LedgerEvent,
    StepFailed,
    StepFinished,
    StepRetryScheduled,
    StepStarted,
)
from core_tables.schemas.outcomes import Accepted, Outcome, Refused, Replayed
from core_tables.schemas.reasons import IDEMPOTENCY_REPLAY, TENANT_SCOPE_VIOLATION, ReasonCode
from core_tables.schemas.vocabulary import ENGINE, OutcomeKind, Severity, WorkOrderStatus
from core_tables.schemas.wire import HEADER_BYTES, MARKER

_SCHEMA: Final = load_schema(AUDIT_SCHEMA)
_PARSED: Final = fastavro.parse_schema(_SCHEMA)
_PREFIX: Final = MARKER + fingerprint_of(_SCHEMA)


def audit_event(
    event_id: int,
    tenant_id: str,
    event: LedgerEvent | None,
    outcome: Outcome,
    status_before: WorkOrderStatus | None,
    broker_time: int,
) -> AuditEvent:
    """The audit event of a record.

    `event` is None where the body cannot be read or must not be shown to the tenant that the record is attributed to; then
    `broker_time` (nanoseconds, of the record) stands for its created_at. A malformed work_order_id is empty in it.
    `status_before` is that of an accepted event's work order.
    """
    kind: OutcomeKind
    severity: Severity = "INFO"
    reason: ReasonCode | None = None
    payload_min: dict[str, str] = {}
    work_order_event_id: int | None = None
    status_after: WorkOrderStatus | None = None
    match outcome:
        case Accepted():
            kind, work_order_event_id = "ACCEPTED", event_id
            status_after = None if event is None else event.work_order_status
        case Replayed():
            kind, work_order_event_id, reason = "REPLAYED", outcome.first_event_id, IDEMPOTENCY_REPLAY
            payload_min["request_differs"] = "true" if outcome.request_differs else "false"
        case Refused():
            kind, reason = "REFUSED", outcome.reason_code
            severity = "ERROR" if outcome.reason_code == TENANT_SCOPE_VIOLATION else "WARN"
            payload_min["sentence"] = outcome.sentence
            if outcome.field is not None:
                payload_min["field"] = outcome.field
        case _:
            assert_never(outcome)
    if event is not None and status_after is None:
        payload_min["work_order_status"] = event.work_order_status
    return AuditEvent(
        event_id=event_id,
        created_at=broker_time if event is None else event.created_at,
        tenant_id=tenant_id,
        work_order_id=None if event is None else event.work_order_id or None,
        correlation_id=None if event is None else event.correlation_id,
        turn_id=None if event is None else event.turn_id,
        engine=ENGINE,
        event_type=None if event is None else event.event_type,
        reason_code=None if event is None else event.reason_code,
        outcome_reason=reason,
        outcome=kind,
        severity=severity,
        idempotency_key=None if event is None else event.idempotency_key,
        work_order_event_id=work_order_event_id,
        status_before=status_before,
        status_after=status_after,
        lease_owner_id=None if event is None else event.lease_owner_id,
        step_id=None if event is None else event.step_id,
        attempt_index=None if event is None else _attempt_index(event),
        payload_min=payload_min,
    )


def _attempt_index(event: LedgerEvent) -> int | None:
    if not event.event_type.startswith("STEP_"):
        return None
    payload = event.payload
    return (
        payload.attempt_index
        if isinstance(payload, (StepStarted, StepFinished, StepFailed, StepRetryScheduled))
        else None
    )


def encode_audit(event: AuditEvent) -> bytes:
    """The value of an audit record: Avro single-object encoding, as on the ledger topic."""
    return encode(_PREFIX, event)


def decode_audit(value: bytes) -> AuditEvent:
    """The audit event of a record's value. Raises ValueError for anything that this release did not write."""
    if value[:HEADER_BYTES] != _PREFIX:
        raise ValueError("the record is no audit event of a schema known to this release")
    record: Any = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), _PARSED, None)
    if record["correlation_id"] is not None:
        record["correlation_id"] = int.from_bytes(record["correlation_id"], "big")
    return AuditEvent(**record)
