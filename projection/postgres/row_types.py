"""The columns of the tables: each class here is the one list of a row's columns, in the order of its table.

`make generate` writes them into the statements of sql/ (generate.py), rows.py makes such rows from events and work orders, and
from_rows.py does the reverse. The types are those of the columns: `int` is bigint, `str` and enums are text, maps and sequences
are jsonb, and `| None = None` is a column that may be null.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple, TypeVar

from msgspec import Struct
from msgspec.json import encode

from core_tables.projection.fold.work_order import Asked
from core_tables.schemas.events import FieldValue
from core_tables.schemas.reasons import ReasonCode
from core_tables.schemas.vocabulary import AttemptStatus, ConfirmationState, EventType, LeaseState, WorkOrderStatus

_T = TypeVar("_T")

Numeric = Annotated[str, "numeric"]  # a number of up to 39 digits, as text
Integer = Annotated[int, "integer"]
# What statements do with a column; any other is written by every statement.
KEY: Final = "key"
FIXED: Final = "fixed"
KEPT: Final = "kept"
Key = Annotated[_T, KEY]  # part of the primary key
Fixed = Annotated[_T, FIXED]  # written once, with the row
Kept = Annotated[_T, KEPT]  # left alone by update_current.sql, which most events need


class Row(Struct, frozen=True, gc=False, omit_defaults=True):
    """A row of a table, or what a statement is asked with; in JSON, columns that are null are left out."""


def differing_columns(one: Row, other: Row) -> list[str]:
    """The columns in which two rows of a table differ, by their JSON: `true` is not 1, and a list equals a tuple."""
    if _json(one) == _json(other):
        return []
    names = one.__struct_fields__
    return [name for name in names if _json(getattr(one, name)) != _json(getattr(other, name))]


def _json(value: object) -> bytes:
    return encode(value, order="sorted")


class LedgerRow(Row, frozen=True, kw_only=True):
    """A row of work_order_ledger."""

    tenant_id: Key[str]
    work_order_event_id: Key[int]
    schema_version: Integer
    created_at: int
    work_order_id: str
    correlation_id: Numeric
    turn_id: int
    event_type: EventType
    status_before: WorkOrderStatus | None = None
    work_order_status: WorkOrderStatus
    reason_code: int
    expected_last_event_id: int | None = None
    step_id: str | None = None
    step_input_hash: str | None = None
    lease_owner_id: str | None = None
    lease_token_hash: str | None = None
    lease_expires_at: int | None = None
    idempotency_key: str | None = None
    payload: Mapping[str, Any]


class OutcomeRow(Row, frozen=True, kw_only=True):
    """A row of work_order_outcomes: what became of a record that was not accepted."""

    tenant_id: Key[str]
    event_id: Key[int]
    work_order_id: str | None = None
    event_type: EventType | None = None
    correlation_id: Numeric | None = None
    turn_id: int | None = None
    idempotency_key: str | None = None
    created_at: int | None = None
    outcome: str
    reason_code: ReasonCode
    field: str | None = None
    sentence: str | None = None
    first_event_id: int | None = None
    request_differs: bool | None = None


class CurrentRow(Row, frozen=True, kw_only=True):
    """A row of work_orders_current."""

    tenant_id: Key[str]
    work_order_id: Key[str]
    correlation_id: Fixed[Numeric]
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
    requester_user_id: Kept[str | None] = None
    requester_speaker_id: Kept[str | None] = None
    device_id: Kept[str | None] = None
    session_id: Kept[str | None] = None
    process_id: Kept[str | None] = None
    blueprint_version: Kept[str | None] = None
    intent_type: Kept[str | None] = None
    fields_json: Kept[Mapping[str, FieldValue]]
    missing_fields_json: Kept[Sequence[str]]
    asked_fields_json: Kept[Mapping[str, Asked]]
    resolved_fields_json: Kept[Mapping[str, FieldValue]]
    prompt_dedupe_keys_json: Kept[Sequence[str]]
    confirmation_state: ConfirmationState | None = None
    external_approval_pending: bool
    external_approval_request_id: str | None = None
    external_approval_target_user_id: str | None = None
    external_approval_expires_at: int | None = None
    external_approval_decision: str | None = None
    active_step_id: str | None = None
    active_step_attempt: int | None = None
    timeout_ms_active: int | None = None
    max_retries_active: int | None = None
    retry_backoff_ms_active: int | None = None
    next_retry_at: int | None = None
    last_failure_reason_code: int | None = None
    created_at: Fixed[int]
    closed_at: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        """The table's primary key."""
        return self.tenant_id, self.work_order_id


class AttemptRow(Row, frozen=True, kw_only=True):
    """A row of work_order_step_attempts."""

    tenant_id: Key[str]
    work_order_id: Key[str]
    step_id: Key[str]
    attempt_index: Key[int]
    status: AttemptStatus
    timeout_ms: int | None = None
    max_retries: int | None = None
    retry_backoff_ms: int | None = None
    next_retry_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    reason_code: int
    idempotency_key: str | None = None
    due_at: int | None = None

    @property
    def key(self) -> tuple[str, str, str, int]:
        """The table's primary key."""
        return self.tenant_id, self.work_order_id, self.step_id, self.attempt_index


class LeaseRow(Row, frozen=True, kw_only=True):
    """A row of work_order_leases."""

    tenant_id: Key[str]
    work_order_id: Key[str]
    granted_event_id: Key[int]
    lease_state: LeaseState
    lease_owner_id: str
    lease_token_hash: str
    acquired_at: int
    renewed_at: int | None = None
    lease_expires_at: int
    released_at: int | None = None
    due_at: int | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """The table's primary key."""
        return self.tenant_id, self.work_order_id, self.granted_event_id


# What else statements return.


class FoundOutcome(OutcomeRow, frozen=True, kw_only=True):
    """What read_outcomes.sql says about a record; of one that was accepted, only its key."""

    accepted: bool


class DueAttemptRow(AttemptRow, frozen=True, kw_only=True):
    """An attempt that is due, and the last failure of its work order."""

    last_failure_reason_code: int | None


class ClosedRow(CurrentRow, frozen=True, kw_only=True):
    """A current record, and the event that closed its work order."""

    closing_event_id: int


class WholeRow(CurrentRow, frozen=True, kw_only=True):
    """A current record with the rows of its attempts and of its last lease, as JSON."""

    attempts: list[dict[str, Any]]
    last_lease: dict[str, Any] | None


class RecordRow(NamedTuple):
    """A record of a correlation: its row of the ledger or of the outcomes as JSON, without correlation_id."""

    tenant_id: str
    event_id: int
    accepted: bool
    columns: dict[str, Any]


class PendingRow(NamedTuple):
    """How far the lane is folded, and a record of a pending list; None in all of its columns where the list is empty."""

    tenant_id: str | None
    applied: int
    epoch: int
    work_order_id: str | None
    correlation_id: str
    work_order_status: WorkOrderStatus
    intent_type: str | None
    process_id: str | None
    missing_fields_json: list[str]
    external_approval_pending: bool
    last_event_id: int
    last_updated_at: int


class CorrelationOwner(NamedTuple):
    """The work order that a correlation_id is bound to."""

    tenant_id: str
    correlation_id: str
    work_order_id: str


class AcceptedRecord(NamedTuple):
    """A record that has a row in the ledger, and the status of its work order before it."""

    work_order_event_id: int
    status_before: WorkOrderStatus | None


class LockedLane(NamedTuple):
    """A lane whose row a statement holds until the end of its transaction."""

    lane: int
