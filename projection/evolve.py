"""What an accepted event does to a work order (contract, section 4). Pure: no clock, no randomness, no I/O."""

from collections.abc import Mapping
from typing import Final

from core_tables.projection.work_order import (
    OPEN_ATTEMPTS,
    ActiveStep,
    Approval,
    Asked,
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
from core_tables.schemas.vocabulary import CLOSED_STATUSES, NS_PER_MS

# A fold that answers otherwise for a ledger already written has another number; the tables know which one wrote them.
FOLD_VERSION: Final = 1


def is_cancel(state: WorkOrder | None, event: LedgerEvent) -> bool:
    """Whether an event is a cancel: its status is CANCELED while the record's is not."""
    return event.work_order_status == "CANCELED" and (state is None or state.last.work_order_status != "CANCELED")


def evolve(state: WorkOrder | None, event: LedgerEvent, event_id: int) -> WorkOrder:
    """The work order after an accepted event. `state` is None for the first event of a work order."""
    last = _last(event, event_id)
    canceling = is_cancel(state, event)
    if state is None:
        state = _first(event, last)
    state = WorkOrder(state.identity, last, *state[2:7], _closed_at(state, event), *state[8:])
    state = _apply(state, event, event_id)
    return _cancel(state, event) if canceling else state


def collect(collected: Collected, event: LedgerEvent) -> Collected:
    """The fields and prompts of a work order after an event."""
    match event.payload:
        case FieldSet(field_key, value, invalidated):
            return collected._replace(
                fields={**collected.fields, field_key: value},
                missing_fields=_without(collected.missing_fields, (field_key,)),
                prompt_dedupe_keys=_without(collected.prompt_dedupe_keys, invalidated or ()),
            )
        case FieldConflictResolved(field_key, value):
            return collected._replace(
                fields={**collected.fields, field_key: value},
                resolved_fields={**collected.resolved_fields, field_key: value},
            )
        case FieldAsked(field_key, prompt_dedupe_key):
            before = collected.asked_fields.get(field_key)
            asked = Asked(asked_at=event.created_at, attempts=before["attempts"] + 1 if before else 1)
            keys = collected.prompt_dedupe_keys
            return collected._replace(
                asked_fields={**collected.asked_fields, field_key: asked},
                prompt_dedupe_keys=keys if prompt_dedupe_key in keys else (*keys, prompt_dedupe_key),
            )
        case WorkOrderCreated(fields=fields, missing_fields=missing_fields):
            return collected._replace(
                fields={**collected.fields, **(fields or {})}, missing_fields=tuple(missing_fields or ())
            )
        case _:
            return collected


def _without(items: tuple[str, ...], dropped: object) -> tuple[str, ...]:
    return tuple(item for item in items if item not in dropped) if items and dropped else items  # type: ignore[operator]


def _last(event: LedgerEvent, event_id: int) -> Last:
    payload = event.payload
    lease_expires_at = event.lease_expires_at
    if isinstance(payload, LeaseAcquired | LeaseRenewed):
        lease_expires_at = event.created_at + payload.ttl_ms * NS_PER_MS
    return Last(
        event.turn_id,
        event.work_order_status,
        event_id,
        event.reason_code,
        event.created_at,
        event.step_id,
        event.step_input_hash,
        event.lease_owner_id,
        event.lease_token_hash,
        lease_expires_at,
    )


def _first(event: LedgerEvent, last: Last) -> WorkOrder:
    identity = Identity(event.tenant_id, event.work_order_id, event.correlation_id, event.created_at)
    return WorkOrder(identity, last, Origin(), Collected(), None, Approval(), ActiveStep(), None, {}, None, ())


def _closed_at(state: WorkOrder, event: LedgerEvent) -> int | None:
    """When the work order was closed: it stays while events leave it closed."""
    if event.work_order_status not in CLOSED_STATUSES:
        return None
    return event.created_at if state.closed_at is None else state.closed_at


def _apply(state: WorkOrder, event: LedgerEvent, event_id: int) -> WorkOrder:
    payload = event.payload
    match payload:
        case StepStarted() | StepFinished() | StepFailed() | StepRetryScheduled():
            return _step(state, event, payload)
        case LeaseAcquired(ttl_ms):
            return _acquire(state, event, event_id, ttl_ms)
        case LeaseRenewed(ttl_ms):
            assert state.lease is not None  # noqa: S101 - decided before
            return state._replace(lease=state.lease._replace(expires_at=event.created_at + ttl_ms * NS_PER_MS))
        case LeaseReleased():
            return _release(state, event.created_at)
        case FieldSet() | FieldConflictResolved() | FieldAsked():
            return state._replace(collected=collect(state.collected, event))
        case StatusChanged(confirmation_state):
            return state if confirmation_state is None else state._replace(confirmation_state=confirmation_state)
        case WorkOrderCreated():
            return state._replace(origin=Origin(*payload[:7]), collected=collect(state.collected, event))
        case ExternalApprovalRequested(request_id, target_user_id, expires_at):
            return state._replace(approval=Approval(True, request_id, target_user_id, expires_at))
        case ExternalApprovalResolved():
            return state._replace(approval=state.approval._replace(pending=False))
        case WorkOrderCanceled() | None:
            return state


def _step(
    state: WorkOrder, event: LedgerEvent, payload: StepStarted | StepFinished | StepFailed | StepRetryScheduled
) -> WorkOrder:
    step_id = event.step_id or ""
    key: AttemptKey = (step_id, payload.attempt_index)
    active = state.active
    row = state.attempts.get(key) or Attempt(
        "RUNNING", None, None, None, None, None, None, event.reason_code, event.idempotency_key
    )
    row = row._replace(reason_code=event.reason_code, idempotency_key=event.idempotency_key)
    match payload:
        case StepStarted(attempt_index, timeout_ms, max_retries, retry_backoff_ms):
            limits = (timeout_ms, max_retries, retry_backoff_ms)
            row = Attempt("RUNNING", *limits, None, event.created_at, None, event.reason_code, event.idempotency_key)
            active = ActiveStep(step_id, attempt_index, *limits, None, active.last_failure_reason_code)
        case StepFinished():
            row = row._replace(status="SUCCEEDED", finished_at=event.created_at, next_retry_at=None)
            active = _no_longer_active(active, key)
        case StepFailed(_, code):
            row = row._replace(status="FAILED", finished_at=event.created_at, next_retry_at=None, reason_code=code)
            active = _no_longer_active(active, key)._replace(last_failure_reason_code=code)
        case StepRetryScheduled(_, next_retry_at):
            row = row._replace(status="SCHEDULED", finished_at=None, next_retry_at=next_retry_at)
            active = _no_longer_active(active, key)._replace(next_retry_at=next_retry_at)
    attempts: Mapping[AttemptKey, Attempt] = {**state.attempts, key: row}
    return state._replace(active=active, attempts=attempts)


def _no_longer_active(active: ActiveStep, key: AttemptKey) -> ActiveStep:
    """The active step columns after an attempt ended: emptied if it was the active one."""
    if (active.active_step_id, active.active_step_attempt) != key:
        return active
    return ActiveStep(next_retry_at=active.next_retry_at, last_failure_reason_code=active.last_failure_reason_code)


def _acquire(state: WorkOrder, event: LedgerEvent, event_id: int, ttl_ms: int) -> WorkOrder:
    owner, token = event.lease_owner_id or "", event.lease_token_hash or ""
    expires_at = event.created_at + ttl_ms * NS_PER_MS
    lease = state.lease
    if lease is not None and event.created_at < lease.expires_at:
        return state._replace(lease=lease._replace(lease_token_hash=token, expires_at=expires_at))
    granted = Lease(event_id, "ACTIVE", owner, token, event.created_at, expires_at, None)
    if lease is None:
        return state._replace(lease=granted)
    expired = lease._replace(lease_state="EXPIRED", ended_at=lease.expires_at)
    return state._replace(lease=granted, closed_leases=(*state.closed_leases, expired))


def _release(state: WorkOrder, at: int) -> WorkOrder:
    if state.lease is None:
        return state
    released = state.lease._replace(lease_state="RELEASED", ended_at=at)
    return state._replace(lease=None, closed_leases=(*state.closed_leases, released))


def _cancel(state: WorkOrder, event: LedgerEvent) -> WorkOrder:
    """Cancel's effects: open attempts are canceled, an active lease is released, no step is active any more."""
    attempts = {
        key: row._replace(
            status="CANCELED",
            finished_at=event.created_at,
            next_retry_at=None,
            reason_code=event.reason_code,
            idempotency_key=event.idempotency_key,
        )
        if row.status in OPEN_ATTEMPTS
        else row
        for key, row in state.attempts.items()
    }
    active = ActiveStep(last_failure_reason_code=state.active.last_failure_reason_code)
    return _release(state._replace(attempts=attempts, active=active), event.created_at)
