"""The fold that the two Python peers share: a dict for each work order, as a team that trusts its events writes it.

It refuses nothing and keeps no attempts or leases; it only leaves out replays.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

State = dict[str, Any]
Event = dict[str, Any]

SCHEMA: Final = Path(__file__).parents[1] / "schemas" / "avro" / "work_order_ledger_event_input.v1.avsc"
HEADER_BYTES: Final = 10  # marker and fingerprint, before the body
NS_PER_MS: Final = 1_000_000
CLOSED: Final = frozenset({"DONE", "REFUSED", "FAILED", "CANCELED"})

_BOTH: Final = ("step_id", "step_input_hash", "lease_owner_id", "lease_token_hash", "lease_expires_at")
_COPIED: Final = ("schema_version", "created_at", "tenant_id", "work_order_id", "turn_id", "event_type")
_ORIGIN: Final = (
    *("requester_user_id", "requester_speaker_id", "device_id", "session_id", "process_id", "blueprint_version"),
    "intent_type",
)
_LIMITS: Final = ("timeout_ms", "max_retries", "retry_backoff_ms")
LEDGER_COLUMNS: Final = (
    *("work_order_event_id", "correlation_id", *_COPIED, "work_order_status", "reason_code"),
    *("expected_last_event_id", *_BOTH, "idempotency_key", "payload"),
)
CURRENT_COLUMNS: Final = (
    *("tenant_id", "work_order_id", "correlation_id", "turn_id", "work_order_status", "last_event_id"),
    *("last_reason_code", "last_updated_at", *_BOTH, *_ORIGIN),
    *("fields_json", "missing_fields_json", "asked_fields_json", "resolved_fields_json", "prompt_dedupe_keys_json"),
    *("confirmation_state", "external_approval_pending", "external_approval_request_id"),
    *("external_approval_target_user_id", "external_approval_expires_at", "external_approval_decision"),
    *("active_step_id", "active_step_attempt"),
    *(f"{name}_active" for name in _LIMITS),
    *("next_retry_at", "last_failure_reason_code", "created_at", "closed_at"),
)


def event_id_at(partition: int, offset: int) -> int:
    """The id of the record at an offset; lanes are partitions, since the benchmark has one topic."""
    return (partition << 42) | (offset + 1)


def ledger_row(event_id: int, event: Event) -> dict[str, Any]:
    """The row of an event, by column; the payload as a dict."""
    row = {column: event.get(column) for column in LEDGER_COLUMNS}
    row["work_order_event_id"] = event_id
    row["correlation_id"] = int.from_bytes(event["correlation_id"], "big")
    row["payload"] = event["payload"] or {}
    return row


def fold(state: State | None, event: Event, event_id: int) -> State | None:
    """The work order after an event, or None if its idempotency key is known. `state` is changed in place."""
    key = event["idempotency_key"]
    if state is None:
        state = _first(event)
    elif key is not None and key in state["seen"]:
        return None
    if key is not None:
        state["seen"].append(key)
    state["turn_id"] = event["turn_id"]
    state["work_order_status"] = event["work_order_status"]
    state["last_event_id"] = event_id
    state["last_reason_code"] = event["reason_code"]
    state["last_updated_at"] = event["created_at"]
    for column in _BOTH:
        state[column] = event[column]
    apply = _APPLY.get(event["event_type"])
    if apply is not None:
        apply(state, event, event["payload"] or {})
    if event["work_order_status"] in CLOSED:
        state["closed_at"] = state["closed_at"] or event["created_at"]
        state["external_approval_pending"] = False
    else:
        state["closed_at"] = None
    return state


def _first(event: Event) -> State:
    state: State = dict.fromkeys(CURRENT_COLUMNS)
    state.update(
        tenant_id=event["tenant_id"],
        work_order_id=event["work_order_id"],
        correlation_id=int.from_bytes(event["correlation_id"], "big"),
        fields_json={},
        missing_fields_json=[],
        asked_fields_json={},
        resolved_fields_json={},
        prompt_dedupe_keys_json=[],
        external_approval_pending=False,
        created_at=event["created_at"],
        seen=[],
    )
    return state


def _created(state: State, _event: Event, payload: Event) -> None:
    for column in _ORIGIN:
        state[column] = payload[column]
    state["fields_json"].update(payload["fields"] or {})
    _missing(state, payload["missing_fields"] or [])


def _missing(state: State, names: list[str]) -> None:
    """Add fields to the missing ones, each once, and drop those that are known."""
    known = dict.fromkeys([*state["missing_fields_json"], *names])
    state["missing_fields_json"] = [name for name in known if name not in state["fields_json"]]


def _field_set(state: State, _event: Event, payload: Event) -> None:
    field, value = payload["field_key"], payload["value"]
    if value is None:
        state["fields_json"].pop(field, None)
        state["resolved_fields_json"].pop(field, None)
    else:
        state["fields_json"][field] = value
    _missing(state, [field] if value is None else [])
    dropped = payload["invalidated_prompt_dedupe_keys"] or []
    state["prompt_dedupe_keys_json"] = [name for name in state["prompt_dedupe_keys_json"] if name not in dropped]
    if dropped:
        state["asked_fields_json"].pop(field, None)


def _conflict_resolved(state: State, _event: Event, payload: Event) -> None:
    state["fields_json"][payload["field_key"]] = payload["value"]
    state["resolved_fields_json"][payload["field_key"]] = payload["value"]
    _missing(state, [])


def _field_asked(state: State, event: Event, payload: Event) -> None:
    asked = state["asked_fields_json"]
    attempts = asked.get(payload["field_key"], {"attempts": 0})["attempts"] + 1
    asked[payload["field_key"]] = {"asked_at": event["created_at"], "attempts": attempts}
    if payload["prompt_dedupe_key"] not in state["prompt_dedupe_keys_json"]:
        state["prompt_dedupe_keys_json"].append(payload["prompt_dedupe_key"])


def _status_changed(state: State, _event: Event, payload: Event) -> None:
    state["confirmation_state"] = payload.get("confirmation_state") or state["confirmation_state"]
    if payload.get("missing_fields"):
        _missing(state, payload["missing_fields"])


def _step_started(state: State, event: Event, payload: Event) -> None:
    state["active_step_id"], state["active_step_attempt"] = event["step_id"], payload["attempt_index"]
    for limit in _LIMITS:
        state[f"{limit}_active"] = payload[limit]
    state["next_retry_at"] = None


def _step_ended(state: State, _event: Event, payload: Event) -> None:
    state["active_step_id"] = state["active_step_attempt"] = None
    for limit in _LIMITS:
        state[f"{limit}_active"] = None
    state["next_retry_at"] = payload.get("next_retry_at", state["next_retry_at"])
    state["last_failure_reason_code"] = payload.get("failure_reason_code", state["last_failure_reason_code"])


def _lease_granted(state: State, event: Event, payload: Event) -> None:
    state["lease_expires_at"] = event["created_at"] + payload["ttl_ms"] * NS_PER_MS


def _approval_requested(state: State, _event: Event, payload: Event) -> None:
    state["external_approval_pending"] = True
    state["external_approval_decision"] = None
    for name in ("request_id", "target_user_id", "expires_at"):
        state[f"external_approval_{name}"] = payload[name]


def _approval_resolved(state: State, _event: Event, payload: Event) -> None:
    if state["external_approval_pending"] and state["external_approval_request_id"] == payload["request_id"]:
        state["external_approval_pending"] = False
        state["external_approval_decision"] = payload["decision"]


_APPLY: Final[dict[str, Callable[[State, Event, Event], None]]] = {
    "WORK_ORDER_CREATED": _created,
    "FIELD_SET": _field_set,
    "FIELD_CONFLICT_RESOLVED": _conflict_resolved,
    "FIELD_ASKED": _field_asked,
    "STATUS_CHANGED": _status_changed,
    "STEP_STARTED": _step_started,
    "STEP_FINISHED": _step_ended,
    "STEP_FAILED": _step_ended,
    "STEP_RETRY_SCHEDULED": _step_ended,
    "LEASE_ACQUIRED": _lease_granted,
    "LEASE_RENEWED": _lease_granted,
    "EXTERNAL_APPROVAL_REQUESTED": _approval_requested,
    "EXTERNAL_APPROVAL_RESOLVED": _approval_resolved,
}
