"""The ledger event, the payload of each event type (contract, sections 3 and 4), and the audit event (section 7).

Immutable structs, whose fields are named as in the Avro schemas and in the contract. Times are nanoseconds since 1970.
The compiled build leaves this module out: mypyc drops a class's keywords, such as frozen and gc.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from core_tables.schemas.reasons import ReasonCode
from core_tables.schemas.vocabulary import (
    SCHEMA_VERSION,
    ConfirmationState,
    EventType,
    OutcomeKind,
    Severity,
    WorkOrderStatus,
)

FieldValue = str | int | bool


class WorkOrderCreated(Struct, frozen=True, gc=False):
    """Identity and initial fields."""

    requester_user_id: str
    requester_speaker_id: str | None = None
    device_id: str | None = None
    session_id: str | None = None
    process_id: str | None = None
    blueprint_version: str | None = None
    intent_type: str | None = None
    fields: Mapping[str, FieldValue] | None = None
    missing_fields: Sequence[str] | None = None


class FieldSet(Struct, frozen=True, gc=False):
    """A field's value, or None if it is no longer known; a correction names the prompt dedupe keys that it invalidates."""

    field_key: str
    value: FieldValue | None
    invalidated_prompt_dedupe_keys: Sequence[str] | None = None


class FieldConflictResolved(Struct, frozen=True, gc=False):
    """Which value won."""

    field_key: str
    value: FieldValue


class FieldAsked(Struct, frozen=True, gc=False):
    """A prompt for a field was shown."""

    field_key: str
    prompt_dedupe_key: str


class StatusChanged(Struct, frozen=True, gc=False):
    """Status, and perhaps what became of the confirmation, and which fields are missing now."""

    confirmation_state: ConfirmationState | None = None
    missing_fields: Sequence[str] | None = None


class StepStarted(Struct, frozen=True, gc=False):
    """An attempt of a step runs now."""

    attempt_index: int
    timeout_ms: int | None = None
    max_retries: int | None = None
    retry_backoff_ms: int | None = None


class StepFinished(Struct, frozen=True, gc=False):
    """An attempt succeeded."""

    attempt_index: int


class StepFailed(Struct, frozen=True, gc=False):
    """An attempt failed."""

    attempt_index: int
    failure_reason_code: int


class StepRetryScheduled(Struct, frozen=True, gc=False):
    """An attempt is due at `next_retry_at`."""

    attempt_index: int
    next_retry_at: int


class LeaseAcquired(Struct, frozen=True, gc=False):
    """A lease is asked for."""

    ttl_ms: int


class LeaseRenewed(Struct, frozen=True, gc=False):
    """A lease held is asked to last longer."""

    ttl_ms: int


class LeaseReleased(Struct, frozen=True, gc=False):
    """A lease held is given back."""


class ExternalApprovalRequested(Struct, frozen=True, gc=False):
    """Somebody outside was asked to approve."""

    request_id: str
    target_user_id: str
    expires_at: int


class ExternalApprovalResolved(Struct, frozen=True, gc=False):
    """The answer came, or the wait is over."""

    request_id: str
    decision: str


class WorkOrderCanceled(Struct, frozen=True, gc=False):
    """The work order is canceled."""


Payload = (
    WorkOrderCreated
    | FieldSet
    | FieldConflictResolved
    | FieldAsked
    | StatusChanged
    | StepStarted
    | StepFinished
    | StepFailed
    | StepRetryScheduled
    | LeaseAcquired
    | LeaseRenewed
    | LeaseReleased
    | ExternalApprovalRequested
    | ExternalApprovalResolved
    | WorkOrderCanceled
)

PAYLOAD_TYPES: Final[dict[EventType, type[Payload]]] = {
    "WORK_ORDER_CREATED": WorkOrderCreated,
    "FIELD_SET": FieldSet,
    "FIELD_CONFLICT_RESOLVED": FieldConflictResolved,
    "FIELD_ASKED": FieldAsked,
    "STATUS_CHANGED": StatusChanged,
    "STEP_STARTED": StepStarted,
    "STEP_FINISHED": StepFinished,
    "STEP_FAILED": StepFailed,
    "STEP_RETRY_SCHEDULED": StepRetryScheduled,
    "LEASE_ACQUIRED": LeaseAcquired,
    "LEASE_RENEWED": LeaseRenewed,
    "LEASE_RELEASED": LeaseReleased,
    "EXTERNAL_APPROVAL_REQUESTED": ExternalApprovalRequested,
    "EXTERNAL_APPROVAL_RESOLVED": ExternalApprovalResolved,
    "WORK_ORDER_CANCELED": WorkOrderCanceled,
}

# An absent payload means the empty one where no field of it is required.
EMPTY_PAYLOADS: Final[dict[EventType, Payload]] = {
    "STATUS_CHANGED": StatusChanged(),
    "LEASE_RELEASED": LeaseReleased(),
    "WORK_ORDER_CANCELED": WorkOrderCanceled(),
}


class LedgerEvent(Struct, frozen=True, gc=False, kw_only=True):
    """`WorkOrderLedgerEventInput`: what an application appends. `created_at` and `lease_expires_at` are nanoseconds.

    Without a payload the event carries the empty one, where its type requires no field of it.
    """

    schema_version: int = SCHEMA_VERSION
    created_at: int
    tenant_id: str
    work_order_id: str
    correlation_id: int
    turn_id: int
    event_type: EventType
    work_order_status: WorkOrderStatus
    reason_code: int
    expected_last_event_id: int | None = None
    step_id: str | None = None
    step_input_hash: str | None = None
    lease_owner_id: str | None = None
    lease_token_hash: str | None = None
    lease_expires_at: int | None = None
    idempotency_key: str | None = None
    payload: Payload | None = None


class SizedEvent(Struct, frozen=True, gc=False):
    """A decoded event and the size of its payload's encoding in bytes, which the contract bounds."""

    event: LedgerEvent
    payload_bytes: int


class AuditEvent(Struct, frozen=True, gc=False, kw_only=True):
    """One outcome of one record. `event_id` is that of the record; times are nanoseconds since 1970.

    `reason_code` is the caller's own, `outcome_reason` the contract's code for a replay or a refusal.
    """

    event_id: int
    created_at: int
    tenant_id: str
    work_order_id: str | None
    correlation_id: int | None
    turn_id: int | None
    engine: str
    event_type: EventType | None
    reason_code: int | None
    outcome_reason: ReasonCode | None
    outcome: OutcomeKind
    severity: Severity
    idempotency_key: str | None
    work_order_event_id: int | None
    status_before: WorkOrderStatus | None
    status_after: WorkOrderStatus | None
    lease_owner_id: str | None
    step_id: str | None
    attempt_index: int | None
    payload_min: dict[str, str]
