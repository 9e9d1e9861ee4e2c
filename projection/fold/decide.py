"""Whether an event is accepted, replayed or refused (contract, section 2). Pure: no clock, no randomness, no I/O.

What it answers for a record that was ever written is frozen: another answer needs a new schema_version.
"""

from typing import Final

from core_tables.projection.fold.collect import collect
from core_tables.projection.fold.evolve import is_cancel
from core_tables.projection.fold.values import First, Request
from core_tables.projection.fold.work_order import Collected, WorkOrder
from core_tables.schemas.events import (
    LedgerEvent,
    Payload,
)
from core_tables.schemas.json_form import canonical_json, payload_to_json
from core_tables.schemas.outcomes import ACCEPTED, Outcome, Replayed, refused
from core_tables.schemas.reasons import (
    CANCEL_INVALID_STATE,
    LEASE_HELD_BY_OTHER,
    LEASE_NOT_FOUND,
    LEASE_TOKEN_INVALID,
    Violation,
    contract_failure,
)
from core_tables.schemas.validation import contract_violation
from core_tables.schemas.vocabulary import (
    MAX_JSON_BYTES,
    MAX_JSON_KEYS,
    MAX_PROMPT_DEDUPE_KEYS,
    PENDING_STATUSES,
)

_NOTHING_COLLECTED: Final = Collected()
_COLLECTING: Final[frozenset[str]] = frozenset(
    {"WORK_ORDER_CREATED", "FIELD_SET", "FIELD_ASKED", "FIELD_CONFLICT_RESOLVED", "STATUS_CHANGED"}
)


def decide(state: WorkOrder | None, request: Request, first: First | None, correlation_owner: str | None) -> Outcome:
    """The outcome of a record, given its work order's state.

    `first` is the event that its idempotency key is bound to; `correlation_owner` the work order of its tenant that its
    correlation_id is bound to. Checks come in the contract's order.
    """
    if request.malformed is not None:
        return refused(request.malformed)
    event = request.event
    if first is not None:
        return Replayed(first_event_id=first.event_id, request_differs=_differs(first.event, event))
    violation = contract_violation(event, request.payload_bytes) or _state_violation(state, event, correlation_owner)
    return ACCEPTED if violation is None else refused(violation)


def _differs(first: LedgerEvent, event: LedgerEvent) -> bool:
    """Whether anything that the caller decided differs, each compared with its type.

    created_at, turn_id and schema_version are not compared: they may be others when a request is made once more.
    """
    return (
        first.event_type != event.event_type
        or first.work_order_status != event.work_order_status
        or first.reason_code != event.reason_code
        or first.expected_last_event_id != event.expected_last_event_id
        or first.step_id != event.step_id
        or first.step_input_hash != event.step_input_hash
        or first.lease_owner_id != event.lease_owner_id
        or first.lease_token_hash != event.lease_token_hash
        or first.lease_expires_at != event.lease_expires_at
        or _payload_bytes(first.payload) != _payload_bytes(event.payload)
    )


def _payload_bytes(payload: Payload | None) -> bytes:
    return b"" if payload is None else canonical_json(payload_to_json(payload))


def _state_violation(state: WorkOrder | None, event: LedgerEvent, correlation_owner: str | None) -> Violation | None:
    return (
        _expectation_violation(state, event)
        or _correlation_violation(state, event, correlation_owner)
        or _created_violation(state, event)
        or _cancel_violation(state, event)
        or _lease_violation(state, event)
        or _bound_violation(state, event)
    )


def _expectation_violation(state: WorkOrder | None, event: LedgerEvent) -> Violation | None:
    expected = event.expected_last_event_id
    if expected is None:
        return None
    actual = 0 if state is None else state.last.last_event_id
    if actual == expected:
        return None
    return contract_failure("expected_last_event_id", f"the record's last_event_id is {actual}, not {expected}")


def _correlation_violation(state: WorkOrder | None, event: LedgerEvent, owner: str | None) -> Violation | None:
    if state is not None:
        if state.identity.correlation_id == event.correlation_id:
            return None
        return contract_failure("correlation_id", "all events of a work order carry the same correlation_id")
    if owner is None or owner == event.work_order_id:
        return None
    return contract_failure(
        "correlation_id", "this correlation_id is already bound to another work order of the tenant"
    )


def _created_violation(state: WorkOrder | None, event: LedgerEvent) -> Violation | None:
    if event.event_type == "WORK_ORDER_CREATED" and state is not None and state.origin.requester_user_id is not None:
        return contract_failure("event_type", "the work order has already been created")
    return None


def _cancel_violation(state: WorkOrder | None, event: LedgerEvent) -> Violation | None:
    if event.event_type != "WORK_ORDER_CANCELED" and not is_cancel(state, event):
        return None
    if event.idempotency_key is None:
        return contract_failure("idempotency_key", "an event that cancels a work order needs idempotency_key")
    if state is None:
        return Violation(CANCEL_INVALID_STATE, "work_order_id", "there is no such work order to cancel")
    status = state.last.work_order_status
    if status in PENDING_STATUSES:
        return None
    sentence = f"the work order is {status}; only one in DRAFT, CLARIFY or CONFIRM can be canceled"
    return Violation(CANCEL_INVALID_STATE, "work_order_status", sentence)


def _lease_violation(state: WorkOrder | None, event: LedgerEvent) -> Violation | None:
    """Who asks for a lease, renews, releases or claims it must be able to hold it at the event's created_at."""
    kind = event.event_type
    if kind.startswith("STEP_"):
        if event.lease_owner_id is None:  # then it has no token either, and claims no lease
            return None
    elif not kind.startswith("LEASE_"):
        return None
    lease = None if state is None else state.lease
    if lease is None:
        if kind == "LEASE_ACQUIRED":
            return None
        return Violation(LEASE_NOT_FOUND, "lease_token_hash", "the work order has no active lease")
    holder, until = lease.lease_owner_id, lease.lease_expires_at
    if event.created_at >= until:
        if kind == "LEASE_ACQUIRED":
            return None
        sentence = f"the lease had expired at created_at; {holder} held it until {until}"
        return Violation(LEASE_NOT_FOUND, "lease_token_hash", sentence)
    if holder != event.lease_owner_id:
        return Violation(LEASE_HELD_BY_OTHER, "lease_owner_id", f"{holder} holds the lease until {until}")
    if kind != "LEASE_ACQUIRED" and lease.lease_token_hash != event.lease_token_hash:
        sentence = f"the token is not that of the lease, which {holder} holds until {until}"
        return Violation(LEASE_TOKEN_INVALID, "lease_token_hash", sentence)
    return None


def _bound_violation(state: WorkOrder | None, event: LedgerEvent) -> Violation | None:
    """Each JSON column stays within 64 keys and 16 KiB, prompt_dedupe_keys_json within 256 keys."""
    if event.event_type not in _COLLECTING:
        return None
    before = _NOTHING_COLLECTED if state is None else state.collected
    after = collect(before, event)
    if after is before:
        return None
    for name in Collected.__struct_fields__:
        value = getattr(after, name)
        if value is getattr(before, name):
            continue
        limit = MAX_PROMPT_DEDUPE_KEYS if name == "prompt_dedupe_keys" else MAX_JSON_KEYS
        if len(value) > limit:
            return contract_failure(
                f"{name}_json", f"{name}_json would hold {len(value)} keys; at most {limit} are allowed"
            )
        size = len(canonical_json(value))
        if size > MAX_JSON_BYTES:
            sentence = f"{name}_json would be {size} bytes long; at most {MAX_JSON_BYTES} are allowed"
            return contract_failure(f"{name}_json", sentence)
    return None
