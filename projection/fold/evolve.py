"""What an accepted event does to a work order (contract, section 4). Pure: no clock, no randomness, no I/O."""

from collections.abc import Mapping
from typing import Final

from core_tables.projection.fold.work_order import (
    OPEN_ATTEMPTS,
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
from core_tables.schemas.events import (
    ExternalApprovalRequested,
    ExternalApprovalResolved,
    FieldAsked,
    FieldConflictResolved,
    FieldSet,
    LeaseAcquired,
    LeaseReleased,
    LeaseRenewed,
    LedgerEvent,
    StatusChanged,
    StepFailed,
    StepFinished,
    StepRetryScheduled,
    StepStarted,
    WorkOrderCanceled,
    WorkOrderCreated,
)
from core_tables.schemas.vocabulary import CLOSED_STATUSES, NS_PER_MS, AttemptStatus, LeaseState

# A fold that answers otherwise for a ledger already written has another number; the tables know which one wrote them.
FOLD_VERSION: Final = 1

_NOTHING_ELSE: Final[tuple[object, ...]] = (Origin(), Collected(), None, Approval(), ActiveStep(), None, {}, None, ())

Attempts = Mapping[AttemptKey, Attempt]
new: Final = tuple.__new__  # a named tuple's own constructor is a function written in Python


def is_cancel(state: WorkOrder | None, event: LedgerEvent) -> bool:
    """Whether an event is a cancel: its status is CANCELED while the record's is not."""
    return event.work_order_status == "CANCELED" and (state is None or state.last.work_order_status != "CANCELED")


def evolve(state: WorkOrder | None, event: LedgerEvent, event_id: int) -> WorkOrder:  # noqa: C901 - a branch per event type
    """The work order after an accepted event. `state` is None for the first event of a work order.

    The parts are picked out and one tuple is built at the end: `_replace`, part after part, took half of the fold's time.
    """
    canceling = is_cancel(state, event)
    if state is None:
        state = _first(event)
    identity, _, origin, collected, confirmation_state, approval, active, closed_at, attempts, lease, closed = state
    created_at, lease_expires_at, payload = event.created_at, event.lease_expires_at, event.payload
    match payload:
        case StatusChanged():
            confirmation_state = payload.confirmation_state or confirmation_state
        case FieldSet() | FieldAsked() | FieldConflictResolved():
            collected = collect(collected, event)
        case StepStarted() | StepFinished() | StepFailed() | StepRetryScheduled():
            active, attempts = _step(active, attempts, event, payload)
        case LeaseAcquired():
            lease_expires_at = created_at + payload.ttl_ms * NS_PER_MS
            lease, closed = _acquire(lease, closed, event, event_id, lease_expires_at)
        case LeaseRenewed():
            lease_expires_at = created_at + payload.ttl_ms * NS_PER_MS
            lease = lease and new(Lease, (*lease[:5], lease_expires_at, None))
        case LeaseReleased():
            lease, closed = _release(lease, closed, created_at)
        case WorkOrderCreated():
            origin, collected = new(Origin, payload[:7]), collect(collected, event)
        case ExternalApprovalRequested():
            approval = Approval(True, *payload)
        case ExternalApprovalResolved():
            approval = approval._replace(pending=False)
        case WorkOrderCanceled() | None:
            pass
    if canceling:
        active, attempts = _cancel(active, attempts, event)
        lease, closed = _release(lease, closed, created_at)
    if event.work_order_status not in CLOSED_STATUSES:
        closed_at = None
    elif closed_at is None:  # it stays as it is while events leave the work order closed
        closed_at = created_at
    status = event.work_order_status
    last = new(Last, (event.turn_id, status, event_id, event.reason_code, created_at, *event[10:14], lease_expires_at))
    parts = (confirmation_state, approval, active, closed_at, attempts, lease, closed)
    return new(WorkOrder, (identity, last, origin, collected, *parts))


def collect(collected: Collected, event: LedgerEvent) -> Collected:
    """The fields and prompts of a work order after an event."""
    fields, missing, asked, resolved, keys = collected
    match payload := event.payload:
        case FieldSet():
            field_key, value, invalidated = payload
            fields = {**fields, field_key: value}
            missing, keys = _without(missing, (field_key,)), _without(keys, invalidated or ())
        case FieldConflictResolved():
            field_key, value = payload
            fields, resolved = {**fields, field_key: value}, {**resolved, field_key: value}
        case FieldAsked():
            field_key, prompt_dedupe_key = payload
            before = asked.get(field_key)
            attempts = before["attempts"] + 1 if before else 1
            asked = {**asked, field_key: {"asked_at": event.created_at, "attempts": attempts}}
            keys = keys if prompt_dedupe_key in keys else (*keys, prompt_dedupe_key)
        case WorkOrderCreated():
            fields, missing = {**fields, **(payload.fields or {})}, tuple(payload.missing_fields or ())
        case _:
            return collected
    return new(Collected, (fields, missing, asked, resolved, keys))


def _without(items: tuple[str, ...], dropped: object) -> tuple[str, ...]:
    return tuple(item for item in items if item not in dropped) if items and dropped else items  # type: ignore[operator]


def _first(event: LedgerEvent) -> WorkOrder:
    """A work order that nothing is known about yet but its identity."""
    identity = new(Identity, (event.tenant_id, event.work_order_id, event.correlation_id, event.created_at))
    nothing = new(Last, (0, event.work_order_status, 0, 0, 0, None, None, None, None, None))
    return new(WorkOrder, (identity, nothing, *_NOTHING_ELSE))


def _step(
    active: ActiveStep,
    attempts: Attempts,
    event: LedgerEvent,
    payload: StepStarted | StepFinished | StepFailed | StepRetryScheduled,
) -> tuple[ActiveStep, Attempts]:
    step_id, reason_code = event.step_id or "", event.reason_code
    key: AttemptKey = (step_id, payload.attempt_index)
    row = attempts.get(key)
    limits, started_at = (row[1:4], row.started_at) if row is not None else ((None, None, None), None)
    status: AttemptStatus
    next_retry_at: int | None = None
    finished_at: int | None = event.created_at
    if isinstance(payload, StepStarted):
        limits, status, started_at, finished_at = payload[1:4], "RUNNING", event.created_at, None
        active = new(ActiveStep, (step_id, payload.attempt_index, *limits, None, active.last_failure_reason_code))
    else:
        active = _no_longer_active(active, key)
        match payload:
            case StepFinished():
                status = "SUCCEEDED"
            case StepFailed():
                status, reason_code = "FAILED", payload.failure_reason_code
                active = new(ActiveStep, (*active[:6], reason_code))
            case StepRetryScheduled():
                status, finished_at, next_retry_at = "SCHEDULED", None, payload.next_retry_at
                active = new(ActiveStep, (*active[:5], next_retry_at, active.last_failure_reason_code))
    times = (next_retry_at, started_at, finished_at)
    return active, {**attempts, key: new(Attempt, (status, *limits, *times, reason_code, event.idempotency_key))}


def _no_longer_active(active: ActiveStep, key: AttemptKey) -> ActiveStep:
    """The active step columns after an attempt ended: emptied if it was the active one."""
    if (active.active_step_id, active.active_step_attempt) != key:
        return active
    return new(ActiveStep, (None, None, None, None, None, *active[5:]))


def _acquire(
    lease: Lease | None, closed: tuple[Lease, ...], event: LedgerEvent, event_id: int, expires_at: int
) -> tuple[Lease, tuple[Lease, ...]]:
    owner, token = event.lease_owner_id or "", event.lease_token_hash or ""
    if lease is not None:
        if event.created_at < lease.expires_at:
            return lease._replace(lease_token_hash=token, expires_at=expires_at), closed
        closed = (*closed, _ended(lease, "EXPIRED", lease.expires_at))
    return new(Lease, (event_id, "ACTIVE", owner, token, event.created_at, expires_at, None)), closed


def _release(lease: Lease | None, closed: tuple[Lease, ...], at: int) -> tuple[None, tuple[Lease, ...]]:
    if lease is None:
        return None, closed
    return None, (*closed, _ended(lease, "RELEASED", at))


def _ended(lease: Lease, state: LeaseState, at: int) -> Lease:
    return new(Lease, (lease.granted_event_id, state, *lease[2:6], at))


def _cancel(active: ActiveStep, attempts: Attempts, event: LedgerEvent) -> tuple[ActiveStep, Attempts]:
    """Cancel's effects on steps: open attempts are canceled, and none is active any more."""
    canceled = {
        key: row._replace(
            status="CANCELED",
            finished_at=event.created_at,
            next_retry_at=None,
            reason_code=event.reason_code,
            idempotency_key=event.idempotency_key,
        )
        if row.status in OPEN_ATTEMPTS
        else row
        for key, row in attempts.items()
    }
    return ActiveStep(last_failure_reason_code=active.last_failure_reason_code), canceled
