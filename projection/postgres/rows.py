"""Rows and values: how events and work orders become columns of the tables, and come back."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from core_tables.projection.fold.batch import Decided
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
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.json_form import canonical_json, payload_from_json, payload_to_json
from core_tables.schemas.outcomes import Refused, Replayed
from core_tables.schemas.reasons import IDEMPOTENCY_REPLAY

Row = tuple[Any, ...]

CURRENT_COLUMNS: Final = (
    *("tenant_id", "work_order_id", "correlation_id"),
    *Last._fields,
    *Origin._fields,
    *(f"{name}_json" for name in Collected._fields),
    "confirmation_state",
    *(f"external_approval_{name}" for name in Approval._fields),
    *ActiveStep._fields,
    *("created_at", "closed_at"),
)
ATTEMPT_COLUMNS: Final = ("tenant_id", "work_order_id", "step_id", "attempt_index", *Attempt._fields)
LEASE_COLUMNS: Final = ("tenant_id", "work_order_id", *Lease._fields)


def _json(value: Mapping[str, Any] | tuple[str, ...]) -> str:
    if not value:
        return "[]" if isinstance(value, tuple) else "{}"
    return canonical_json(value).decode()


def ledger_row(event_id: int, event: LedgerEvent) -> Row:
    """The row of insert_ledger.sql."""
    payload = "{}" if event.payload is None else _json(payload_to_json(event.payload))
    return (
        event.tenant_id,
        event_id,
        event.schema_version,
        event.created_at,
        event.work_order_id,
        str(event.correlation_id),
        *event[5:16],
        payload,
    )


def event_of_row(row: Sequence[Any]) -> tuple[int, LedgerEvent]:
    """The event id and event of a row of read_ledger.sql."""
    payload = payload_from_json(row[7], row[17])
    return row[1], LedgerEvent._make((row[2], row[3], row[0], row[4], int(row[5]), *row[6:17], payload))


def outcome_row(decided: Decided) -> Row:
    """The row of insert_outcomes.sql of a record that was not accepted."""
    work_order_id = None if decided.event is None else decided.event.work_order_id
    head = (decided.tenant_id, decided.event_id, work_order_id)
    match decided.outcome:
        case Replayed(first_event_id, payload_differs):
            return (*head, "REPLAYED", IDEMPOTENCY_REPLAY, None, None, first_event_id, payload_differs)
        case Refused(reason_code, field, sentence):
            return (*head, "REFUSED", reason_code, field, sentence, None, None)
        case _:
            raise AssertionError("an accepted record has a ledger row")


def outcome_of_row(row: Sequence[Any]) -> Replayed | Refused:
    """The outcome in (reason_code, field, sentence, first_event_id, payload_differs)."""
    reason_code, field, sentence, first_event_id, payload_differs = row
    if first_event_id is not None:
        return Replayed(first_event_id, payload_differs)
    return Refused(reason_code, field, sentence)


def current_row(state: WorkOrder) -> Row:
    """The row of upsert_current.sql."""
    identity, collected = state.identity, state.collected
    return (
        identity.tenant_id,
        identity.work_order_id,
        str(identity.correlation_id),
        *state.last,
        *state.origin,
        _json(collected.fields),
        _json(collected.missing_fields),
        _json(collected.asked_fields),
        _json(collected.resolved_fields),
        _json(collected.prompt_dedupe_keys),
        state.confirmation_state,
        *state.approval,
        *state.active,
        identity.created_at,
        state.closed_at,
    )


def moved_row(state: WorkOrder) -> Row:
    """The row of update_current.sql: what events change that leave fields, prompts and origin as they were."""
    parts = (state.confirmation_state, *state.approval, *state.active, state.closed_at)
    return (*state.identity[:2], *state.last, *parts)


def work_order_json(state: WorkOrder) -> dict[str, Any]:
    """The current record as JSON: the columns of work_orders_current, JSON columns as values."""
    record = dict(zip(CURRENT_COLUMNS, current_row(state), strict=True))
    for name in Collected._fields:
        record[f"{name}_json"] = getattr(state.collected, name)
    return record


def state_of_row(row: Sequence[Any]) -> WorkOrder:
    """The state that a row of load_current.sql holds; its attempts and lease lie in rows of their own."""
    collected = Collected(row[20], tuple(row[21]), row[22], row[23], tuple(row[24]))
    return WorkOrder(
        Identity(row[0], row[1], int(row[2]), row[37]),
        Last(*row[3:13]),
        Origin(*row[13:20]),
        collected,
        row[25],
        Approval(*row[26:30]),
        ActiveStep(*row[30:37]),
        row[38],
        {},
        None,
        (),
    )


def attempt_rows(state: WorkOrder, before: WorkOrder | None = None) -> list[Row]:
    """The rows of upsert_attempts.sql, without those that are as they were before."""
    if before is not None and before.attempts is state.attempts:
        return []
    key = state.identity[:2]
    old = {} if before is None else before.attempts
    return [(*key, *attempt, *row) for attempt, row in state.attempts.items() if old.get(attempt) != row]


def attempt_of_row(row: Sequence[Any]) -> tuple[AttemptKey, Attempt]:
    """The key and value of a row of load_attempts.sql."""
    return (row[2], row[3]), Attempt(*row[4:])


def lease_rows(state: WorkOrder, before: WorkOrder | None = None) -> list[Row]:
    """The rows of upsert_leases.sql, oldest grant first, without those that are as they were before."""
    if before is not None and before.lease is state.lease and before.closed_leases is state.closed_leases:
        return []
    key = state.identity[:2]
    leases = state.closed_leases if state.lease is None else (*state.closed_leases, state.lease)
    old = () if before is None else (before.lease, *before.closed_leases)
    return [(*key, *lease) for lease in leases if lease not in old]


def lease_of_row(row: Sequence[Any]) -> Lease:
    """The lease of a row of load_active_leases.sql."""
    return Lease(*cast("tuple[Any, ...]", row)[2:])
