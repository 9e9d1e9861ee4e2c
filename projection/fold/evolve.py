"""What an accepted event does to a work order (contract, section 4). Pure: no clock, no randomness, no I/O."""

from typing import Final, assert_never

from msgspec.structs import replace

from core_tables.projection.fold.collect import collect
from core_tables.projection.fold.work_order import (
    OPEN_ATTEMPTS,
    ActiveStep,
    Approval,
    Attempt,
    AttemptKey,
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
from core_tables.schemas.vocabulary import CLOSED_STATUSES, NS_PER_MS, AttemptStatus

# A fold that answers otherwise for a ledger already written has another number; the tables know which one wrote them.
FOLD_VERSION: Final = 1

# What is known of an attempt whose first event is not its start.
_NEVER_STARTED: Final = Attempt(status="RUNNING", reason_code=0, idempotency_key=None)


def is_cancel(state: WorkOrder | None, event: LedgerEvent) -> bool:
    """Whether an event is a cancel: its status is CANCELED while the record's is not."""
    return event.work_order_status == "CANCELED" and (state is None or state.last.work_order_status != "CANCELED")


def evolve(state: WorkOrder | None, event: LedgerEvent, event_id: int) -> WorkOrder:  # noqa: C901 - a branch per event type
    """The work order after an accepted event. `state` is None for the first event of a work order.

    Groups that the event leaves as they were are handed on as the same objects: the store looks for that.
    """
    canceling = is_cancel(state, event)
    if state is None:
        state = _first(event)
    lease_expires_at = event.lease_expires_at
    match payload := event.payload:
        case StatusChanged():
            confirmation_state = payload.confirmation_state or state.confirmation_state
            state = replace(state, confirmation_state=confirmation_state, collected=collect(state.collected, event))
        case FieldSet() | FieldAsked() | FieldConflictResolved():
            state = replace(state, collected=collect(state.collected, event))
        case StepStarted():
            state = _start(state, event, payload)
        case StepFinished() | StepFailed() | StepRetryScheduled():
            state = _end_attempt(state, event, payload)
        case LeaseAcquired():
            lease_expires_at = event.created_at + payload.ttl_ms * NS_PER_MS
            state = _acquire(state, event, event_id, lease_expires_at)
        case LeaseRenewed():
            lease_expires_at = event.created_at + payload.ttl_ms * NS_PER_MS
            state = replace(state, lease=state.lease and _renewed(state.lease, event, lease_expires_at))
        case LeaseReleased():
            state = _release(state, event)
        case WorkOrderCreated():
            state = replace(state, origin=_origin(payload), collected=collect(state.collected, event))
        case ExternalApprovalRequested():
            state = replace(state, approval=_approval(payload))
        case ExternalApprovalResolved():
            state = replace(state, approval=_resolved(state.approval, payload))
        case WorkOrderCanceled() | None:
            pass
        case _:
            assert_never(payload)
    if canceling:
        state = _release(_cancel_steps(state, event), event)
    if state.approval.pending and event.work_order_status in CLOSED_STATUSES:
        state = replace(state, approval=replace(state.approval, pending=False))
    return replace(state, last=_last(event, event_id, lease_expires_at), closed_at=_closed_at(state, event))


def _first(event: LedgerEvent) -> WorkOrder:
    """A work order that nothing is known about yet but its identity."""
    return WorkOrder(
        identity=Identity(
            tenant_id=event.tenant_id,
            work_order_id=event.work_order_id,
            correlation_id=event.correlation_id,
            created_at=event.created_at,
        ),
        last=_last(event, 0, None),
    )


def _last(event: LedgerEvent, event_id: int, lease_expires_at: int | None) -> Last:
    return Last(
        turn_id=event.turn_id,
        work_order_status=event.work_order_status,
        last_event_id=event_id,
        last_reason_code=event.reason_code,
        last_updated_at=event.created_at,
        step_id=event.step_id,
        step_input_hash=event.step_input_hash,
        lease_owner_id=event.lease_owner_id,
        lease_token_hash=event.lease_token_hash,
        lease_expires_at=lease_expires_at,
    )


def _closed_at(state: WorkOrder, event: LedgerEvent) -> int | None:
    """When the work order was closed; it stays as it is while events leave the work order closed."""
    if event.work_order_status not in CLOSED_STATUSES:
        return None
    return event.created_at if state.closed_at is None else state.closed_at


def _origin(payload: WorkOrderCreated) -> Origin:
    return Origin(
        requester_user_id=payload.requester_user_id,
        requester_speaker_id=payload.requester_speaker_id,
        device_id=payload.device_id,
        session_id=payload.session_id,
        process_id=payload.process_id,
        blueprint_version=payload.blueprint_version,
        intent_type=payload.intent_type,
    )


def _approval(payload: ExternalApprovalRequested) -> Approval:
    return Approval(
        pending=True,
        request_id=payload.request_id,
        target_user_id=payload.target_user_id,
        expires_at=payload.expires_at,
    )


def _resolved(approval: Approval, payload: ExternalApprovalResolved) -> Approval:
    """The answer ends the wait for its own request; any other is in the ledger only."""
    if not approval.pending or approval.request_id != payload.request_id:
        return approval
    return replace(approval, pending=False, decision=payload.decision)


def _start(state: WorkOrder, event: LedgerEvent, payload: StepStarted) -> WorkOrder:
    """An attempt runs: its row is replaced, whatever it held."""
    step_id = event.step_id or ""
    attempt = Attempt(
        status="RUNNING",
        timeout_ms=payload.timeout_ms,
        max_retries=payload.max_retries,
        retry_backoff_ms=payload.retry_backoff_ms,
        started_at=event.created_at,
        reason_code=event.reason_code,
        idempotency_key=event.idempotency_key,
    )
    active = ActiveStep(
        active_step_id=step_id,
        active_step_attempt=payload.attempt_index,
        timeout_ms_active=payload.timeout_ms,
        max_retries_active=payload.max_retries,
        retry_backoff_ms_active=payload.retry_backoff_ms,
        last_failure_reason_code=state.active.last_failure_reason_code,
    )
    return replace(state, active=active, attempts={**state.attempts, (step_id, payload.attempt_index): attempt})


def _end_attempt(
    state: WorkOrder, event: LedgerEvent, payload: StepFinished | StepFailed | StepRetryScheduled
) -> WorkOrder:
    """An attempt does not run any more; what its row said about its start and its limits stays."""
    step_id, attempt_index = key = (event.step_id or "", payload.attempt_index)
    attempt = state.attempts.get(key) or _NEVER_STARTED
    active = _no_longer_active(state.active, key)
    status: AttemptStatus
    reason_code = event.reason_code
    finished_at: int | None = event.created_at
    next_retry_at: int | None = None
    match payload:
        case StepFinished():
            status = "SUCCEEDED"
        case StepFailed():
            status, reason_code = "FAILED", payload.failure_reason_code
            active = replace(active, last_failure_reason_code=reason_code)
        case StepRetryScheduled():
            status, next_retry_at, finished_at = "SCHEDULED", payload.next_retry_at, None
            attempt = _limited(attempt, state.attempts.get((step_id, attempt_index - 1)))
            active = replace(active, next_retry_at=next_retry_at)
        case _:
            assert_never(payload)
    attempt = replace(
        attempt,
        status=status,
        next_retry_at=next_retry_at,
        finished_at=finished_at,
        reason_code=reason_code,
        idempotency_key=event.idempotency_key,
    )
    return replace(state, active=active, attempts={**state.attempts, key: attempt})


def _limited(attempt: Attempt, before: Attempt | None) -> Attempt:
    """An attempt with the limits of the one before it, if it has none of its own."""
    if before is None or (attempt.timeout_ms, attempt.max_retries, attempt.retry_backoff_ms) != (None, None, None):
        return attempt
    return replace(
        attempt,
        timeout_ms=before.timeout_ms,
        max_retries=before.max_retries,
        retry_backoff_ms=before.retry_backoff_ms,
    )


def _no_longer_active(active: ActiveStep, key: AttemptKey) -> ActiveStep:
    """The active step columns after an attempt ended: emptied if it was the active one."""
    if (active.active_step_id, active.active_step_attempt) != key:
        return active
    return ActiveStep(next_retry_at=active.next_retry_at, last_failure_reason_code=active.last_failure_reason_code)


def _acquire(state: WorkOrder, event: LedgerEvent, event_id: int, expires_at: int) -> WorkOrder:
    """A lease is granted, or the one that its owner holds lasts longer, under a new token."""
    owner, token = event.lease_owner_id or "", event.lease_token_hash or ""
    lease, closed_leases = state.lease, state.closed_leases
    if lease is not None:
        if event.created_at < lease.lease_expires_at:
            return replace(state, lease=replace(_renewed(lease, event, expires_at), lease_token_hash=token))
        closed_leases = (*closed_leases, replace(lease, lease_state="EXPIRED"))
    granted = Lease(
        granted_event_id=event_id,
        lease_state="ACTIVE",
        lease_owner_id=owner,
        lease_token_hash=token,
        acquired_at=event.created_at,
        lease_expires_at=expires_at,
    )
    return replace(state, lease=granted, closed_leases=closed_leases)


def _renewed(lease: Lease, event: LedgerEvent, expires_at: int) -> Lease:
    return replace(lease, renewed_at=event.created_at, lease_expires_at=expires_at)


def _release(state: WorkOrder, event: LedgerEvent) -> WorkOrder:
    if state.lease is None:
        return state
    released = replace(state.lease, lease_state="RELEASED", released_at=event.created_at)
    return replace(state, lease=None, closed_leases=(*state.closed_leases, released))


def _cancel_steps(state: WorkOrder, event: LedgerEvent) -> WorkOrder:
    """Cancel's effects on steps: open attempts are canceled, and none is active any more."""
    attempts = {
        key: replace(
            attempt,
            status="CANCELED",
            next_retry_at=None,
            finished_at=event.created_at,
            reason_code=event.reason_code,
        )
        if attempt.status in OPEN_ATTEMPTS
        else attempt
        for key, attempt in state.attempts.items()
    }
    active = ActiveStep(last_failure_reason_code=state.active.last_failure_reason_code)
    return replace(state, active=active, attempts=attempts)
