"""The rules of the contract that need no state (sections 3 and 4), in the contract's order of fields."""

from typing import Final

from msgspec.structs import asdict

from core_tables.schemas.events import PAYLOAD_TYPES, LeaseAcquired, LeaseRenewed, LedgerEvent
from core_tables.schemas.reasons import LEASE_TTL_OUT_OF_BOUNDS, Violation, contract_failure
from core_tables.schemas.text import is_blank
from core_tables.schemas.vocabulary import (
    CREATED_STATUSES,
    MAX_ATTEMPT_INDEX,
    MAX_HASH_BYTES,
    MAX_I64,
    MAX_IDEMPOTENCY_KEY_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_STEP_ID_BYTES,
    MAX_TTL_MS,
    MAX_U32,
    MAX_U128,
    MAX_WORK_ORDER_ID_BYTES,
    NS_PER_MS,
    SCHEMA_VERSION,
    UNATTRIBUTED,
)
from core_tables.schemas.wire import is_tenant_id

TENANT_ID_RULE: Final = f"tenant_id must be ASCII, not blank, at most 64 bytes long and not {UNATTRIBUTED}"
_NUL: Final = "contains U+0000, which no text may contain"
# The numbers in payloads, by field: a field of this name means the same in each payload that has it.
PAYLOAD_BOUNDS: Final = {
    "attempt_index": (0, MAX_ATTEMPT_INDEX),
    "timeout_ms": (0, MAX_I64),
    "max_retries": (0, MAX_I64),
    "retry_backoff_ms": (0, MAX_I64),
    "failure_reason_code": (1, MAX_U32),
    "next_retry_at": (1, MAX_I64),
    "ttl_ms": (1, MAX_TTL_MS),
    "expires_at": (1, MAX_I64),
}


def malformed_identity(event: LedgerEvent) -> Violation | None:
    """The checks that come before the search for a replay: work_order_id and idempotency_key are well formed."""
    return _text("work_order_id", event.work_order_id, MAX_WORK_ORDER_ID_BYTES) or malformed_key(event)


def malformed_key(event: LedgerEvent) -> Violation | None:
    """What is wrong with the event's idempotency_key, if it has one."""
    if event.idempotency_key is None:
        return None
    return _text("idempotency_key", event.idempotency_key, MAX_IDEMPOTENCY_KEY_BYTES)


def contract_violation(event: LedgerEvent, payload_bytes: int) -> Violation | None:
    """The rest of the contract: the first rule that the event breaks, or None."""
    return (
        _common_violation(event)
        or _optional_text_violation(event)
        or _payload_violation(event, payload_bytes)
        or _requirement_violation(event)
    )


def first_violation(event: LedgerEvent, payload_bytes: int) -> Violation | None:
    """All checks that need no state, for a program that wants to know before it sends."""
    return malformed_identity(event) or contract_violation(event, payload_bytes)


def _common_violation(event: LedgerEvent) -> Violation | None:
    if event.schema_version != SCHEMA_VERSION:
        return contract_failure(
            "schema_version", f"schema_version is {event.schema_version}; {SCHEMA_VERSION} was expected"
        )
    if violation := _range("created_at", event.created_at, 1, MAX_I64):
        return violation
    if not is_tenant_id(event.tenant_id):
        return contract_failure("tenant_id", TENANT_ID_RULE)
    return (
        _range("correlation_id", event.correlation_id, 1, MAX_U128)
        or _range("turn_id", event.turn_id, 1, MAX_I64)
        or _range("reason_code", event.reason_code, 1, MAX_U32)
        or (
            _range("expected_last_event_id", event.expected_last_event_id, 0, MAX_I64)
            if event.expected_last_event_id is not None
            else None
        )
    )


def _optional_text_violation(event: LedgerEvent) -> Violation | None:
    if event.step_id is not None and (found := _text("step_id", event.step_id, MAX_STEP_ID_BYTES)):
        return found
    for field in ("step_input_hash", "lease_owner_id", "lease_token_hash"):
        text: str | None = getattr(event, field)
        if text is not None and (found := _text(field, text, MAX_HASH_BYTES)):
            return found
    if event.lease_expires_at is not None:
        return _range("lease_expires_at", event.lease_expires_at, 0, MAX_I64)
    return None


def _payload_violation(event: LedgerEvent, payload_bytes: int) -> Violation | None:
    payload = event.payload
    if payload is None or type(payload) is not PAYLOAD_TYPES[event.event_type]:
        return contract_failure("payload", f"an event of type {event.event_type} needs the payload of its type")
    if payload_bytes > MAX_PAYLOAD_BYTES:
        return contract_failure(
            "payload", f"the payload is {payload_bytes} bytes long; at most {MAX_PAYLOAD_BYTES} are allowed"
        )
    for name, value in asdict(payload).items():
        if value is not None and (found := _value_violation(name, value)):
            return found
    return None


def _value_violation(name: str, value: object) -> Violation | None:
    """What is wrong with a field of a payload."""
    if isinstance(value, str):
        if value and not value.isspace() and "\0" not in value:  # as nearly all are
            return None
        return _text_violation(name, value, may_be_empty=name == "value")
    if isinstance(value, list):
        return next(filter(None, (_text_violation(name, text, "holds a blank text") for text in value)), None)
    if isinstance(value, dict):
        return next(filter(None, (_entry_violation(name, *entry) for entry in value.items())), None)
    if name not in PAYLOAD_BOUNDS or not isinstance(value, int):
        return None
    low, high = PAYLOAD_BOUNDS[name]
    if name == "ttl_ms" and not low <= value <= high:
        return Violation(LEASE_TTL_OUT_OF_BOUNDS, name, f"{name} is {value}; it must be from {low} to {high}")
    return _range(name, value, low, high)


def _entry_violation(name: str, key: str, value: object) -> Violation | None:
    """What is wrong with a key and a value of `fields`."""
    found = _text_violation(name, key, "holds a blank key")
    if found is None and isinstance(value, str):
        found = _text_violation(name, value, "holds a blank value", may_be_empty=True)
    return found


def _text_violation(name: str, text: str, blank: str = "is blank", *, may_be_empty: bool = False) -> Violation | None:
    """What is wrong with a text whatever its length; only the value of a field may be empty."""
    if "\0" in text:
        return contract_failure(name, f"{name} {_NUL}")
    if is_blank(text) and not (may_be_empty and text == ""):
        return contract_failure(name, f"{name} {blank}")
    return None


def _requirement_violation(event: LedgerEvent) -> Violation | None:
    kind = event.event_type
    if kind.startswith("STEP_"):
        return _missing("step_id", kind) if event.step_id is None else _claim_fields_violation(event)
    if kind.startswith("LEASE_"):
        return _lease_fields_violation(event)
    if kind == "WORK_ORDER_CREATED" and event.work_order_status not in CREATED_STATUSES:
        return contract_failure("work_order_status", "a work order is created as DRAFT, CLARIFY, CONFIRM or EXECUTING")
    if kind == "WORK_ORDER_CANCELED":
        if event.work_order_status != "CANCELED":
            return contract_failure(
                "work_order_status", "an event of type WORK_ORDER_CANCELED carries the status CANCELED"
            )
        if event.idempotency_key is None:
            return _missing("idempotency_key", kind)
    return None


def _claim_fields_violation(event: LedgerEvent) -> Violation | None:
    """A step claims a lease with both its owner and its token."""
    if (event.lease_owner_id is None) == (event.lease_token_hash is None):
        return None
    field = "lease_owner_id" if event.lease_owner_id is None else "lease_token_hash"
    sentence = "a step that claims a lease carries both lease_owner_id and lease_token_hash"
    return contract_failure(field, sentence)


def _lease_fields_violation(event: LedgerEvent) -> Violation | None:
    if event.lease_owner_id is None:
        return _missing("lease_owner_id", event.event_type)
    if event.lease_token_hash is None:
        return _missing("lease_token_hash", event.event_type)
    if not isinstance(event.payload, (LeaseAcquired, LeaseRenewed)):
        return None
    expires_at = event.created_at + event.payload.ttl_ms * NS_PER_MS
    if event.lease_expires_at not in (None, expires_at):
        return contract_failure("lease_expires_at", "lease_expires_at is not created_at + ttl_ms")
    return _range("lease_expires_at", expires_at, 0, MAX_I64)


def _missing(field: str, kind: str) -> Violation:
    return contract_failure(field, f"an event of type {kind} needs {field}")


def _range(field: str, value: int, low: int, high: int) -> Violation | None:
    if low <= value <= high:
        return None
    return contract_failure(field, f"{field} is {value}; it must be from {low} to {high}")


def _text(field: str, text: str, limit: int) -> Violation | None:
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        return contract_failure(field, f"{field} is {size} bytes long; at most {limit} are allowed")
    return None if text and not text.isspace() and "\0" not in text else _text_violation(field, text)
