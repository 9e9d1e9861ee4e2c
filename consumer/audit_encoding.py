"""Outcomes as records of the audit topic."""

from collections.abc import Iterable, Iterator

from core_tables.consumer.audit_record import AuditRecord
from core_tables.projection.fold.values import Decided
from core_tables.schemas.audit import audit_event, encode_audit
from core_tables.schemas.events import AuditEvent


def audit_of(decided: Decided) -> AuditEvent:
    """The audit event of an outcome."""
    return audit_event(
        decided.event_id,
        decided.tenant_id,
        decided.event,
        decided.outcome,
        decided.status_before,
        decided.broker_time,
    )


def audit_record(decided: Decided) -> AuditRecord:
    """The record that reports an outcome."""
    return AuditRecord(
        event_id=decided.event_id,
        key=decided.tenant_id.encode(),
        value=encode_audit(audit_of(decided)),
        traceparent=decided.traceparent,
    )


def with_audit(parts: Iterable[list[Decided]], records: list[AuditRecord]) -> Iterator[list[Decided]]:
    """Pass outcomes on, and add their audit records to `records`: encoded later, they would be cold in memory."""
    for decided in parts:
        records += [audit_record(each) for each in decided]
        yield decided
