"""The audit event (contract, section 7): a pure function of a record and its outcome, and its encoding."""

import io
from typing import Any, Final, NamedTuple

import fastavro

from core_tables.schemas.audit_event_v1 import encode
from core_tables.schemas.avro_schema import AUDIT_SCHEMA, fingerprint_of, load_schema
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.outcomes import Accepted, Outcome, Refused, Replayed
from core_tables.schemas.reasons import IDEMPOTENCY_REPLAY, TENANT_SCOPE_VIOLATION
from core_tables.schemas.vocabulary import ENGINE, EventType, OutcomeKind, Severity
from core_tables.schemas.wire import HEADER_BYTES, MARKER

_SCHEMA: Final = load_schema(AUDIT_SCHEMA)
_PARSED: Final = fastavro.parse_schema(_SCHEMA)
_PREFIX: Final = MARKER + fingerprint_of(_SCHEMA)


class AuditEvent(NamedTuple):
    """One outcome of one record. `event_id` is the record's own position id; times are nanoseconds since 1970."""

    event_id: int
    created_at: int
    tenant_id: str
    work_order_id: str | None
    correlation_id: int | None
    turn_id: int | None
    engine: str
    event_type: EventType | None
    reason_code: str | None
    outcome: OutcomeKind
    severity: Severity
    idempotency_key: str | None
    work_order_event_id: int | None
    payload_min: dict[str, str]


def audit_event(
    event_id: int, tenant_id: str, event: LedgerEvent | None, outcome: Outcome, broker_time: int
) -> AuditEvent:
    """The audit event of a record.

    `event` is None where the body cannot be read or must not be shown to the tenant that the record is attributed to;
    then `broker_time` (nanoseconds, of the record) stands for its created_at.
    """
    kind: OutcomeKind
    severity: Severity = "INFO"
    reason: str | None = None
    payload_min: dict[str, str] = {}
    work_order_event_id: int | None = None
    match outcome:
        case Accepted():
            kind, work_order_event_id = "ACCEPTED", event_id
        case Replayed(first_event_id, payload_differs):
            kind, work_order_event_id, reason = "REPLAYED", first_event_id, IDEMPOTENCY_REPLAY
            payload_min["payload_differs"] = "true" if payload_differs else "false"
        case Refused(reason_code, field, sentence):
            kind, reason = "REFUSED", reason_code
            severity = "ERROR" if reason_code == TENANT_SCOPE_VIOLATION else "WARN"
            payload_min["sentence"] = sentence
            if field is not None:
                payload_min["field"] = field
    if event is None:
        shown = (None, None, None, ENGINE, None, reason, kind, severity, None, work_order_event_id, payload_min)
        return AuditEvent(event_id, broker_time, tenant_id, *shown)
    payload_min["work_order_status"] = event.work_order_status
    payload_min["caller_reason_code"] = str(event.reason_code)
    fields = (
        *(event_id, event.created_at, tenant_id, event.work_order_id, event.correlation_id, event.turn_id, ENGINE),
        *(event.event_type, reason, kind, severity, event.idempotency_key, work_order_event_id, payload_min),
    )
    return tuple.__new__(AuditEvent, fields)  # half the time of its own constructor


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
