"""The contract a second time: sections 2 to 5 over plain dicts, written from docs/CONTRACT.md without a line of our fold.

It is slow and plain on purpose. `tests/test_laws.py` holds the real fold to it, on whatever events Hypothesis finds,
`tests/test_golden_log.py` on the golden log, and `tests/oracle.py` on every topic that was folded among faults. Events come in
their JSON form with one name more (payload_type), rows are dicts by column.
"""

from typing import Any

import orjson

Json = dict[str, Any]
Why = tuple[str, str | None]  # reason code, field

CONTRACT = "OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED"
CANCEL = "OS_WORK_ORDER_CANCEL_INVALID_STATE"
CLOSED = ("DONE", "REFUSED", "FAILED", "CANCELED")
LIMITS = ("timeout_ms", "max_retries", "retry_backoff_ms")
STEP_AND_LEASE = ("step_id", "step_input_hash", "lease_owner_id", "lease_token_hash", "lease_expires_at")
COMPARED = ("event_type", "work_order_status", "reason_code", "expected_last_event_id", *STEP_AND_LEASE, "payload")
ORIGIN = (
    *("requester_user_id", "requester_speaker_id", "device_id", "session_id", "process_id", "blueprint_version"),
    "intent_type",
)
JSON_COLUMNS = {
    "fields_json": dict,
    "missing_fields_json": list,
    "asked_fields_json": dict,
    "resolved_fields_json": dict,
    "prompt_dedupe_keys_json": list,
}
WHITE_SPACE = {chr(point) for point in range(0x3001) if chr(point).isspace()} - set("\x1c\x1d\x1e\x1f")
NUMBERS = {
    "attempt_index": (0, 2**31 - 1),
    "timeout_ms": (0, 2**63 - 1),
    "max_retries": (0, 2**63 - 1),
    "retry_backoff_ms": (0, 2**63 - 1),
    "failure_reason_code": (1, 2**32 - 1),
    "next_retry_at": (1, 2**63 - 1),
    "expires_at": (1, 2**63 - 1),
}
REQUIRED = {
    "WORK_ORDER_CREATED": ("requester_user_id",),
    "FIELD_SET": ("field_key", "value"),
    "FIELD_CONFLICT_RESOLVED": ("field_key", "value"),
    "FIELD_ASKED": ("field_key", "prompt_dedupe_key"),
    "STEP_STARTED": ("attempt_index",),
    "STEP_FINISHED": ("attempt_index",),
    "STEP_FAILED": ("attempt_index", "failure_reason_code"),
    "STEP_RETRY_SCHEDULED": ("attempt_index", "next_retry_at"),
    "LEASE_ACQUIRED": ("ttl_ms",),
    "LEASE_RENEWED": ("ttl_ms",),
    "EXTERNAL_APPROVAL_REQUESTED": ("request_id", "target_user_id", "expires_at"),
    "EXTERNAL_APPROVAL_RESOLVED": ("request_id", "decision"),
}


def blank(text: str) -> bool:
    return all(character in WHITE_SPACE for character in text)


def bad_text(text: str | None, limit: int = 2**63) -> bool:
    return text is not None and (len(text.encode()) > limit or "\0" in text or blank(text))


def bad_value(value: Any) -> bool:
    return isinstance(value, str) and value != "" and bad_text(value)


def outside(value: int | None, low: int, high: int) -> bool:
    return value is not None and not low <= value <= high


def broken_schema(value: bytes | None, offset: int, registered: dict[str, int]) -> Why | None:
    """Step 1 of the order of checks; `registered` has the fingerprints of the lane, each with its first offset."""
    if value is None or len(value) < 10 or value[:2] != b"\xc3\x01":
        return CONTRACT, None
    fingerprint = value[2:10].hex()
    return None if fingerprint in registered and offset >= registered[fingerprint] else (CONTRACT, "schema")


def malformed_name(event: Json) -> Why | None:
    """Step 5 of the order of checks."""
    for name in ("work_order_id", "idempotency_key"):
        if bad_text(event.get(name), 128):
            return CONTRACT, name
    return None


def broken_rule(event: Json, payload_bytes: int) -> Why | None:
    """Step 7: the table of section 3 from above to below, the payload, then what the type requires."""
    text = {"step_id": 96, "step_input_hash": 128, "lease_owner_id": 128, "lease_token_hash": 128}
    tenant = event["tenant_id"]
    broken = {
        "schema_version": event["schema_version"] != 1,
        "created_at": outside(event["created_at"], 1, 2**63 - 1),
        "tenant_id": bad_text(tenant, 64) or not tenant.isascii() or tenant == "_unattributed",
        "correlation_id": outside(int(event["correlation_id"]), 1, 2**128 - 1),
        "turn_id": outside(event["turn_id"], 1, 2**63 - 1),
        "reason_code": outside(event["reason_code"], 1, 2**32 - 1),
        "expected_last_event_id": outside(event.get("expected_last_event_id"), 0, 2**63 - 1),
        **{name: bad_text(event.get(name), limit) for name, limit in text.items()},
        "lease_expires_at": outside(event.get("lease_expires_at"), 0, 2**63 - 1),
    }
    for name, wrong in broken.items():
        if wrong:
            return CONTRACT, name
    return broken_payload(event, payload_bytes) or broken_requirement(event)


def broken_payload(event: Json, payload_bytes: int) -> Why | None:
    payload = event.get("payload")
    if payload is None:
        return (CONTRACT, "payload") if event["event_type"] in REQUIRED else None
    if payload_bytes > 16_384 or event["payload_type"] != event["event_type"]:
        return CONTRACT, "payload"
    for name, value in payload.items():
        if isinstance(value, list):
            wrong = any(map(bad_text, value))
        elif isinstance(value, dict):
            wrong = any(bad_text(key) or bad_value(item) for key, item in value.items())
        elif name == "value":
            wrong = bad_value(value)
        elif isinstance(value, str):
            wrong = bad_text(value)
        elif name == "ttl_ms":
            if outside(value, 1, 300_000):
                return "LEASE_TTL_OUT_OF_BOUNDS", name
            wrong = False
        else:
            wrong = outside(value, *NUMBERS[name])
        if wrong:
            return CONTRACT, name
    return None


def broken_requirement(event: Json) -> Why | None:
    kind, status = event["event_type"], event["work_order_status"]
    needed: list[str] = []
    if kind.startswith("STEP_"):
        needed = ["step_id"]
        if event.get("lease_owner_id") is not None or event.get("lease_token_hash") is not None:
            needed += ["lease_owner_id", "lease_token_hash"]
    if kind.startswith("LEASE_"):
        needed = ["lease_owner_id", "lease_token_hash"]
    if kind == "WORK_ORDER_CREATED" and status not in ("DRAFT", "CLARIFY", "CONFIRM", "EXECUTING"):
        return CONTRACT, "work_order_status"
    if kind == "WORK_ORDER_CANCELED":
        if status != "CANCELED":
            return CONTRACT, "work_order_status"
        needed = ["idempotency_key"]
    for name in needed:
        if event.get(name) is None:
            return CONTRACT, name
    if kind in ("LEASE_ACQUIRED", "LEASE_RENEWED"):
        until = event["created_at"] + event["payload"]["ttl_ms"] * 1_000_000
        if until > 2**63 - 1 or event.get("lease_expires_at") not in (None, until):
            return CONTRACT, "lease_expires_at"
    return None


class WorkOrderRows:
    """The rows of one work order: current, attempts by (step_id, attempt_index), leases oldest first."""

    def __init__(self, event: Json) -> None:
        self.current: Json = {
            **{name: event[name] for name in ("tenant_id", "work_order_id", "correlation_id", "created_at")},
            **dict.fromkeys(("work_order_status", "last_event_id", *ORIGIN, "confirmation_state", "closed_at")),
            **dict.fromkeys(("active_step_id", "active_step_attempt", *(f"{name}_active" for name in LIMITS))),
            **dict.fromkeys(("next_retry_at", "last_failure_reason_code")),
            **{name: kind() for name, kind in JSON_COLUMNS.items()},
            "external_approval_pending": False,
            **dict.fromkeys(f"external_approval_{name}" for name in ("request_id", "target_user_id", "expires_at")),
            "external_approval_decision": None,
        }
        self.attempts: dict[tuple[str, int], Json] = {}
        self.leases: list[Json] = []

    @property
    def active_lease(self) -> Json | None:
        return self.leases[-1] if self.leases and self.leases[-1]["lease_state"] == "ACTIVE" else None


class ContractFold:
    """A ledger in memory that decides as the contract says."""

    def __init__(self) -> None:
        self.orders: dict[tuple[str, str], WorkOrderRows] = {}
        self.keys: dict[tuple[str, str, str], tuple[int, Json]] = {}
        self.correlations: dict[tuple[str, str], str] = {}

    def append(self, event_id: int, event: Json, payload_bytes: int) -> tuple[Any, ...]:
        """Decide about a record whose body, key and partition are right: what `outcome_of` makes of an outcome."""
        if why := malformed_name(event):
            return ("refused", *why)
        name = (event["tenant_id"], event["work_order_id"])
        key = event.get("idempotency_key")
        if key is not None and (*name, key) in self.keys:
            first_id, first = self.keys[*name, key]
            return "replayed", first_id, any(not same(first.get(part), event.get(part)) for part in COMPARED)
        if why := broken_rule(event, payload_bytes):
            return ("refused", *why)
        rows = self.orders.get(name)
        if why := self.broken_state_rule(rows, event):
            return ("refused", *why)
        before = None if rows is None else rows.current["work_order_status"]
        changed = applied(rows, event, event_id)
        if column := over_bounds(changed):
            return "refused", CONTRACT, column
        self.orders[name] = changed
        self.correlations[name[0], event["correlation_id"]] = name[1]
        if key is not None:
            self.keys[*name, key] = event_id, event
        return "accepted", before

    def broken_state_rule(self, rows: WorkOrderRows | None, event: Json) -> Why | None:
        """Section 4, "State rules", except for the bounds."""
        kind, current = event["event_type"], None if rows is None else rows.current
        expected = event.get("expected_last_event_id")
        if expected is not None and expected != (current["last_event_id"] if current else 0):
            return CONTRACT, "expected_last_event_id"
        owner = self.correlations.get((event["tenant_id"], event["correlation_id"]))
        if (
            current["correlation_id"] != event["correlation_id"]
            if current
            else owner not in (None, event["work_order_id"])
        ):
            return CONTRACT, "correlation_id"
        if kind == "WORK_ORDER_CREATED" and current and current["requester_user_id"] is not None:
            return CONTRACT, "event_type"
        if kind == "WORK_ORDER_CANCELED" or turns_canceled(current, event):
            if event.get("idempotency_key") is None:
                return CONTRACT, "idempotency_key"
            if current is None:
                return CANCEL, "work_order_id"
            if current["work_order_status"] not in ("DRAFT", "CLARIFY", "CONFIRM"):
                return CANCEL, "work_order_status"
        claims = kind.startswith("STEP_") and event.get("lease_owner_id") is not None
        if kind.startswith("LEASE_") or claims:
            return broken_lease_rule(rows, event)
        return None


def broken_lease_rule(rows: WorkOrderRows | None, event: Json) -> Why | None:
    lease = None if rows is None else rows.active_lease
    unexpired = lease is not None and event["created_at"] < lease["lease_expires_at"]
    asks = event["event_type"] == "LEASE_ACQUIRED"
    if lease is None or not unexpired:
        return None if asks else ("LEASE_NOT_FOUND", "lease_token_hash")
    if lease["lease_owner_id"] != event["lease_owner_id"]:
        return "LEASE_HELD_BY_OTHER", "lease_owner_id"
    if not asks and lease["lease_token_hash"] != event["lease_token_hash"]:
        return "LEASE_TOKEN_INVALID", "lease_token_hash"
    return None


def same(one: Any, other: Any) -> bool:
    """Equal with their types: true is not 1. The order of a map's entries does not count."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other)


def turns_canceled(current: Json | None, event: Json) -> bool:
    return event["work_order_status"] == "CANCELED" and (not current or current["work_order_status"] != "CANCELED")


def applied(rows: WorkOrderRows | None, event: Json, event_id: int) -> WorkOrderRows:
    """The rows after an accepted event; those before stay as they are."""
    after = WorkOrderRows(event)
    cancels = turns_canceled(None if rows is None else rows.current, event)
    if rows is not None:
        after.current = {**rows.current, **{name: kind(rows.current[name]) for name, kind in JSON_COLUMNS.items()}}
        after.attempts = {key: dict(row) for key, row in rows.attempts.items()}
        after.leases = [dict(row) for row in rows.leases]
    current, payload = after.current, event.get("payload") or {}
    current |= {
        "turn_id": event["turn_id"],
        "work_order_status": event["work_order_status"],
        "last_event_id": event_id,
        "last_reason_code": event["reason_code"],
        "last_updated_at": event["created_at"],
        **{name: event.get(name) for name in STEP_AND_LEASE},
    }
    if event["event_type"].startswith("STEP_"):
        apply_step(after, event, payload)
    elif event["event_type"].startswith("LEASE_"):
        apply_lease(after, event, event_id, payload)
    else:
        apply_fields(current, event, payload)
        apply_approval(current, event["event_type"], payload)
    if cancels:
        apply_cancel(after, event)
    if event["work_order_status"] in CLOSED:
        current["closed_at"] = event["created_at"] if current["closed_at"] is None else current["closed_at"]
        current["external_approval_pending"] = False
    else:
        current["closed_at"] = None
    return after


def apply_fields(current: Json, event: Json, payload: Json) -> None:
    fields, missing = current["fields_json"], current["missing_fields_json"]
    key = payload.get("field_key")
    match event["event_type"]:
        case "WORK_ORDER_CREATED":
            current |= {name: payload.get(name) for name in ORIGIN}
            fields |= payload.get("fields") or {}
            missing += payload.get("missing_fields") or []
        case "STATUS_CHANGED":
            current["confirmation_state"] = payload.get("confirmation_state") or current["confirmation_state"]
            missing += payload.get("missing_fields") or []
        case "FIELD_SET":
            if payload["value"] is None:
                fields.pop(key, None)
                current["resolved_fields_json"].pop(key, None)
                missing.append(key)
            else:
                fields[key] = payload["value"]
            invalidated = payload.get("invalidated_prompt_dedupe_keys") or []
            prompts = current["prompt_dedupe_keys_json"]
            current["prompt_dedupe_keys_json"] = [prompt for prompt in prompts if prompt not in invalidated]
            if invalidated:
                current["asked_fields_json"].pop(key, None)
        case "FIELD_CONFLICT_RESOLVED":
            fields[key] = current["resolved_fields_json"][key] = payload["value"]
        case "FIELD_ASKED":
            before = current["asked_fields_json"].get(key, {"attempts": 0})
            current["asked_fields_json"][key] = {"asked_at": event["created_at"], "attempts": before["attempts"] + 1}
            if payload["prompt_dedupe_key"] not in current["prompt_dedupe_keys_json"]:
                current["prompt_dedupe_keys_json"].append(payload["prompt_dedupe_key"])
    current["missing_fields_json"] = [name for name in dict.fromkeys(missing) if name not in fields]


def apply_approval(current: Json, kind: str, payload: Json) -> None:
    names = ("request_id", "target_user_id", "expires_at")
    if kind == "EXTERNAL_APPROVAL_REQUESTED":
        current |= {f"external_approval_{name}": payload[name] for name in names}
        current |= {"external_approval_pending": True, "external_approval_decision": None}
    waited_for = current["external_approval_request_id"] if current["external_approval_pending"] else None
    if kind == "EXTERNAL_APPROVAL_RESOLVED" and payload["request_id"] == waited_for:
        current |= {"external_approval_pending": False, "external_approval_decision": payload["decision"]}


def empty_active(current: Json) -> None:
    current |= dict.fromkeys(("active_step_id", "active_step_attempt", *(f"{name}_active" for name in LIMITS)))


def apply_step(after: WorkOrderRows, event: Json, payload: Json) -> None:
    kind, current, at = event["event_type"], after.current, event["created_at"]
    key = (event["step_id"], payload["attempt_index"])
    row = after.attempts.get(key) or dict.fromkeys((*LIMITS, "next_retry_at", "started_at", "finished_at"))
    active = (current["active_step_id"], current["active_step_attempt"]) == key
    reason = event["reason_code"]
    if kind == "STEP_STARTED":
        limits = {name: payload.get(name) for name in LIMITS}
        row = {**limits, "status": "RUNNING", "next_retry_at": None, "started_at": at, "finished_at": None}
        current |= {"active_step_id": key[0], "active_step_attempt": key[1], "next_retry_at": None}
        current |= {f"{name}_active": limit for name, limit in limits.items()}
    elif active:
        empty_active(current)
    if kind == "STEP_FINISHED":
        row |= {"status": "SUCCEEDED", "next_retry_at": None, "finished_at": at}
    if kind == "STEP_FAILED":
        reason = payload["failure_reason_code"]
        row |= {"status": "FAILED", "next_retry_at": None, "finished_at": at}
        current["last_failure_reason_code"] = reason
    if kind == "STEP_RETRY_SCHEDULED":
        row |= {"status": "SCHEDULED", "next_retry_at": payload["next_retry_at"], "finished_at": None}
        current["next_retry_at"] = payload["next_retry_at"]
        before = after.attempts.get((key[0], key[1] - 1))
        if before is not None and all(row[name] is None for name in LIMITS):
            row |= {name: before[name] for name in LIMITS}
    after.attempts[key] = {**row, "reason_code": reason, "idempotency_key": event.get("idempotency_key")}


def apply_lease(after: WorkOrderRows, event: Json, event_id: int, payload: Json) -> None:
    at, lease = event["created_at"], after.active_lease
    if event["event_type"] == "LEASE_RELEASED":
        assert lease is not None
        lease |= {"lease_state": "RELEASED", "released_at": at}
        return
    until = at + payload["ttl_ms"] * 1_000_000
    after.current["lease_expires_at"] = until
    token = event["lease_token_hash"]
    if lease is not None and at < lease["lease_expires_at"]:
        lease |= {"lease_token_hash": token, "renewed_at": at, "lease_expires_at": until}
        return
    if lease is not None:
        lease["lease_state"] = "EXPIRED"
    granted = {"granted_event_id": event_id, "lease_state": "ACTIVE", "lease_owner_id": event["lease_owner_id"]}
    granted |= {"lease_token_hash": token, "acquired_at": at, "renewed_at": None}
    after.leases.append({**granted, "lease_expires_at": until, "released_at": None})


def apply_cancel(after: WorkOrderRows, event: Json) -> None:
    for row in after.attempts.values():
        if row["status"] in ("SCHEDULED", "RUNNING"):
            row |= {"status": "CANCELED", "next_retry_at": None, "finished_at": event["created_at"]}
            row["reason_code"] = event["reason_code"]
    empty_active(after.current)
    after.current["next_retry_at"] = None
    if after.active_lease is not None:
        after.active_lease.update(lease_state="RELEASED", released_at=event["created_at"])


def over_bounds(rows: WorkOrderRows) -> str | None:
    """Section 5, "Bounds": the first column that is too large."""
    for column in JSON_COLUMNS:
        value = rows.current[column]
        most = 256 if column == "prompt_dedupe_keys_json" else 64
        if len(value) > most or len(orjson.dumps(value)) > 16_384:
            return column
    return None
