"""A record of the audit topic; the compiled build leaves this module out (schemas/events.py)."""

from msgspec import Struct


class AuditRecord(Struct, frozen=True, gc=False):
    """A record of the audit topic, encoded, and the id of the ledger record whose outcome it reports."""

    event_id: int
    key: bytes
    value: bytes
    traceparent: bytes | None
