"""The state of one work order: what its current, attempt and lease rows say (contract, section 5).

Immutable structs, grouped by what changes together: an event replaces the groups that it changes and hands on the others.
Times are nanoseconds since 1970, ids are event ids. The compiled build leaves this module out (schemas/events.py).
"""

from collections.abc import Mapping
from typing import Final, TypedDict

from msgspec import Struct
from msgspec.structs import replace

from core_tables.schemas.events import FieldValue
from core_tables.schemas.vocabulary import AttemptStatus, ConfirmationState, LeaseState, WorkOrderStatus


class Identity(Struct, frozen=True, gc=False, kw_only=True):
    """What never changes after the first event."""

    tenant_id: str
    work_order_id: str
    correlation_id: int
    created_at: int


class Last(Struct, frozen=True, gc=False, kw_only=True):
    """What every accepted event replaces; the step and lease columns are the event's own, null included."""

    turn_id: int
    work_order_status: WorkOrderStatus
    last_event_id: int
    last_reason_code: int
    last_updated_at: int
    step_id: str | None = None
    step_input_hash: str | None = None
    lease_owner_id: str | None = None
    lease_token_hash: str | None = None
    lease_expires_at: int | None = None


class Origin(Struct, frozen=True, gc=False, kw_only=True):
    """Who asked for what, where: set by WORK_ORDER_CREATED."""

    requester_user_id: str | None = None
    requester_speaker_id: str | None = None
    device_id: str | None = None
    session_id: str | None = None
    process_id: str | None = None
    blueprint_version: str | None = None
    intent_type: str | None = None


class Asked(TypedDict):
    """When a field was asked for last, and how often; the shape that asked_fields_json has."""

    asked_at: int
    attempts: int


class Collected(Struct, frozen=True, gc=False, kw_only=True):
    """The fields of a work order and what was asked about them."""

    fields: Mapping[str, FieldValue] = {}
    missing_fields: tuple[str, ...] = ()
    asked_fields: Mapping[str, Asked] = {}
    resolved_fields: Mapping[str, FieldValue] = {}
    prompt_dedupe_keys: tuple[str, ...] = ()


class Approval(Struct, frozen=True, gc=False, kw_only=True):
    """The external approval that is, or was last, waited for, and what was decided."""

    pending: bool = False
    request_id: str | None = None
    target_user_id: str | None = None
    expires_at: int | None = None
    decision: str | None = None


class ActiveStep(Struct, frozen=True, gc=False, kw_only=True):
    """The step attempt that runs now, if any, the retry that is due, and the last failure."""

    active_step_id: str | None = None
    active_step_attempt: int | None = None
    timeout_ms_active: int | None = None
    max_retries_active: int | None = None
    retry_backoff_ms_active: int | None = None
    next_retry_at: int | None = None
    last_failure_reason_code: int | None = None


class Attempt(Struct, frozen=True, gc=False, kw_only=True):
    """A row of work_order_step_attempts; status, reason and key are those of the last event that changed it."""

    status: AttemptStatus
    timeout_ms: int | None = None
    max_retries: int | None = None
    retry_backoff_ms: int | None = None
    next_retry_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    reason_code: int
    idempotency_key: str | None


class Lease(Struct, frozen=True, gc=False, kw_only=True):
    """A row of work_order_leases, named by the event that granted it; `renewed_at` is when it was last made to last longer."""

    granted_event_id: int
    lease_state: LeaseState
    lease_owner_id: str
    lease_token_hash: str
    acquired_at: int
    renewed_at: int | None = None
    lease_expires_at: int
    released_at: int | None = None


AttemptKey = tuple[str, int]  # step_id, attempt_index


class WorkOrder(Struct, frozen=True, gc=False, kw_only=True):
    """One work order. `attempts` holds at least the open ones; `closed_leases` those that ended while we watched."""

    identity: Identity
    last: Last
    origin: Origin = Origin()
    collected: Collected = Collected()
    confirmation_state: ConfirmationState | None = None
    approval: Approval = Approval()
    active: ActiveStep = ActiveStep()
    closed_at: int | None = None
    attempts: Mapping[AttemptKey, Attempt] = {}
    lease: Lease | None = None
    closed_leases: tuple[Lease, ...] = ()


OPEN_ATTEMPTS: Final[frozenset[str]] = frozenset({"SCHEDULED", "RUNNING"})


def settled(state: WorkOrder) -> WorkOrder:
    """The state without the rows that are closed: all that deciding about later events needs."""
    open_attempts = state.attempts
    if open_attempts:
        open_attempts = {key: row for key, row in open_attempts.items() if row.status in OPEN_ATTEMPTS}
    if not state.closed_leases and len(open_attempts) == len(state.attempts):
        return state
    return replace(state, attempts=open_attempts, closed_leases=())
