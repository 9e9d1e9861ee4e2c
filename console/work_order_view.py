"""A work order as its page shows it: groups of facts, each of which says whether the event that is looked at changed it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from msgspec.structs import asdict

from core_tables.projection.fold.work_order import WorkOrder
from core_tables.projection.postgres.read_types import (
    CurrentRecord,
    GrantedLease,
    StepAttempt,
    WholeWorkOrder,
    granted_lease,
    record_of_state,
    step_attempt,
)
from core_tables.projection.postgres.rows import attempt_rows, lease_rows

FactKind = Literal["text", "id", "time", "number"]


class Fact(NamedTuple):
    """One column of the record; `was` is its value before, if the event changed it."""

    label: str
    value: Any
    kind: FactKind
    changed: bool
    was: Any


class Facts(NamedTuple):
    """Facts about one thing."""

    title: str
    facts: list[Fact]


class FieldView(NamedTuple):
    """A field of the work order: what is known about it. Its value is hidden unless somebody asks."""

    key: str
    state: Literal["known", "resolved", "missing", "asked"]
    value: Any
    asked: int
    asked_at: int | None
    changed: bool


class WorkOrderAt(NamedTuple):
    """A work order at one event, with its attempts and its leases, the newest first."""

    record: CurrentRecord
    attempts: tuple[StepAttempt, ...]
    leases: tuple[GrantedLease, ...]


class AttemptView(NamedTuple):
    """A step attempt."""

    attempt: StepAttempt
    changed: bool


class LeaseView(NamedTuple):
    """A lease that was granted."""

    lease: GrantedLease
    changed: bool


class WorkOrderView(NamedTuple):
    """All that the page shows about the state of a work order."""

    correlation_id: str
    groups: list[Facts]
    fields: list[FieldView]
    attempts: list[AttemptView]
    leases: list[LeaseView]


_GROUPS: Final[Mapping[str, Mapping[str, tuple[str, FactKind]]]] = {
    "Record": {
        "work_order_status": ("Status", "text"),
        "confirmation_state": ("Confirmation", "text"),
        "last_reason_code": ("Reason code", "number"),
        "turn_id": ("Turn", "number"),
        "last_failure_reason_code": ("Last failure", "number"),
        "next_retry_at": ("Next retry", "time"),
        "last_event_id": ("Last event", "id"),
        "created_at": ("Created", "time"),
        "last_updated_at": ("Updated", "time"),
        "closed_at": ("Closed", "time"),
    },
    "Origin": {
        "requester_user_id": ("Requester", "id"),
        "requester_speaker_id": ("Speaker", "id"),
        "intent_type": ("Intent", "text"),
        "process_id": ("Process", "id"),
        "blueprint_version": ("Blueprint", "text"),
        "device_id": ("Device", "id"),
        "session_id": ("Session", "id"),
    },
    "Step that runs": {
        "active_step_id": ("Step", "id"),
        "active_step_attempt": ("Attempt", "number"),
        "timeout_ms_active": ("Timeout, ms", "number"),
        "max_retries_active": ("Retries at most", "number"),
        "retry_backoff_ms_active": ("Back-off, ms", "number"),
    },
    "Approval": {
        "external_approval_request_id": ("Request", "id"),
        "external_approval_target_user_id": ("Asked", "id"),
        "external_approval_expires_at": ("Expires", "time"),
        "external_approval_decision": ("Decision", "text"),
    },
}


# Every event changes these, so that they did says nothing.
_ALWAYS_NEW: Final = frozenset({"last_event_id", "last_updated_at", "last_reason_code", "turn_id"})


def at_present(found: WholeWorkOrder) -> WorkOrderAt:
    """A work order as the tables have it, with its last lease only."""
    return WorkOrderAt(found, found.attempts, () if found.last_lease is None else (found.last_lease,))


def of_state(state: WorkOrder) -> WorkOrderAt:
    """A work order as its events were folded."""
    return WorkOrderAt(
        record_of_state(state),
        tuple(map(step_attempt, attempt_rows(state))),
        tuple(map(granted_lease, reversed(lease_rows(state)))),
    )


def work_order_view(found: WorkOrderAt, before: WorkOrderAt | None, *, compare: bool) -> WorkOrderView:
    """A work order; with `compare`, what differs from before is marked."""
    row = asdict(found.record)
    old = asdict(before.record) if before is not None else {}
    groups = [Facts(title, list(_facts(columns, row, old, compare))) for title, columns in _GROUPS.items()]
    old_attempts = () if before is None else before.attempts
    old_leases = () if before is None else before.leases
    return WorkOrderView(
        correlation_id=str(found.record.correlation_id),
        groups=[group for group in groups if group.facts],
        fields=list(_fields(row, old, compare)),
        attempts=[
            AttemptView(attempt, compare and attempt not in old_attempts) for attempt in _in_order(found.attempts)
        ],
        leases=[LeaseView(lease, compare and lease not in old_leases) for lease in found.leases],
    )


def _in_order(attempts: tuple[StepAttempt, ...]) -> list[StepAttempt]:
    return sorted(attempts, key=lambda attempt: (attempt.step_id, attempt.attempt_index))


def _facts(
    columns: Mapping[str, tuple[str, FactKind]], row: Mapping[str, Any], old: Mapping[str, Any], compare: bool
) -> Iterator[Fact]:
    for column, (label, kind) in columns.items():
        value, was = row[column], old.get(column)
        if value is not None or (compare and was is not None):
            yield Fact(label, value, kind, compare and value != was and column not in _ALWAYS_NEW, was)


def _fields(row: Mapping[str, Any], old: Mapping[str, Any], compare: bool) -> Iterator[FieldView]:
    known = row["fields_json"]
    names = dict.fromkeys([*known, *row["missing_fields_json"], *row["asked_fields_json"]])
    for key in names:
        asked = row["asked_fields_json"].get(key)
        yield FieldView(
            key=key,
            state=_field_state(row, key),
            value=known.get(key),
            asked=0 if asked is None else asked["attempts"],
            asked_at=None if asked is None else asked["asked_at"],
            changed=compare and _about_field(row, key) != _about_field(old, key),
        )


def _field_state(row: Mapping[str, Any], key: str) -> Literal["known", "resolved", "missing", "asked"]:
    if key in row["resolved_fields_json"]:
        return "resolved"
    if key in row["fields_json"]:
        return "known"
    return "missing" if key in row["missing_fields_json"] else "asked"


def _about_field(row: Mapping[str, Any], key: str) -> tuple[Any, ...]:
    if not row:
        return ()
    absent = object  # a field may be null
    known, resolved = row["fields_json"].get(key, absent), row["resolved_fields_json"].get(key, absent)
    return known, resolved, key in row["missing_fields_json"], row["asked_fields_json"].get(key)
