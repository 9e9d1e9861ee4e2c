"""The ledger event and the payload of each event type (contract, sections 3 and 4), as immutable tuples.

The order of fields is that of the Avro schema, of the ledger table's columns and of the contract.
Times are nanoseconds since 1970.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from core_tables.schemas.vocabulary import ConfirmationState, EventType, WorkOrderStatus

FieldValue = str | int | bool


class WorkOrderCreated(NamedTuple):
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


class FieldSet(NamedTuple):
    """A field's value; a correction also names the prompt dedupe keys that it invalidates."""

    field_key: str
    value: FieldValue
    invalidated_prompt_dedupe_keys: Sequence[str] | None = None


class FieldConflictResolved(NamedTuple):
    """Which value won."""

    field_key: str
    value: FieldValue


class FieldAsked(NamedTuple):
    """A prompt for a field was shown."""

    field_key: str
    prompt_dedupe_key: str


class StatusChanged(NamedTuple):
    """Status, and perhaps what became of the confirmation."""

    confirmation_state: ConfirmationState | None = None


class StepStarted(NamedTuple):
    """An attempt of a step runs now."""

    attempt_index: int
    timeout_ms: int | None = None
    max_retries: int | None = None
    retry_backoff_ms: int | None = None


class StepFinished(NamedTuple):
    """An attempt succeeded."""

    attempt_index: int


class StepFailed(NamedTuple):
    """An attempt failed."""

    attempt_index: int
    failure_reason_code: int


class StepRetryScheduled(NamedTuple):
    """An attempt is due at `next_retry_at`."""

    attempt_index: int
    next_retry_at: int


class LeaseAcquired(NamedTuple):
    """A lease is asked for."""

    ttl_ms: int


class LeaseRenewed(NamedTuple):
    """A lease held is asked to last longer."""

    ttl_ms: int


class LeaseReleased(NamedTuple):
    """A lease held is given back."""


class ExternalApprovalRequested(NamedTuple):
    """Somebody outside was asked to approve."""

    request_id: str
    target_user_id: str
    expires_at: int


class ExternalApprovalResolved(NamedTuple):
    """The answer came, or the wait is over."""

    request_id: str
    decision: str


class WorkOrderCanceled(NamedTuple):
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


class LedgerEvent(NamedTuple):
    """`WorkOrderLedgerEventInput`. Its payload is None only where a record left out one that its type requires."""

    schema_version: int
    created_at: int
    tenant_id: str
    work_order_id: str
    correlation_id: int
    turn_id: int
    event_type: EventType
    work_order_status: WorkOrderStatus
    reason_code: int
    expected_last_event_id: int | None
    step_id: str | None
    step_input_hash: str | None
    lease_owner_id: str | None
    lease_token_hash: str | None
    lease_expires_at: int | None
    idempotency_key: str | None
    payload: Payload | None
