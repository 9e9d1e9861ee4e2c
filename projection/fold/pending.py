"""The pending list (contract, section 6): which records belong to it and in which order. Pure.

Cache and Postgres hold the same records; this one function sorts and cuts them, so their answers cannot differ.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct

from core_tables.projection.fold.work_order import WorkOrder
from core_tables.schemas.reasons import ContractError, contract_failure
from core_tables.schemas.vocabulary import (
    DEFAULT_TOP_N,
    HOT_WINDOW_NS,
    MAX_TOP_N,
    PENDING_STATUSES,
    WARM_WINDOW_NS,
    WorkOrderStatus,
)


class PendingRecord(Struct, frozen=True, gc=False, array_like=True):
    """What Postgres and the cache hold of an offer. The cache has it as a JSON array of its fields."""

    work_order_id: str
    correlation_id: str
    work_order_status: WorkOrderStatus
    intent_type: str | None
    process_id: str | None
    missing_fields: Sequence[str]
    external_approval_pending: bool
    last_event_id: int
    last_updated_at: int


class PendingOffer(Struct, frozen=True, kw_only=True):
    """A record of a pending list, with what a resume offer needs (contract, section 6); times are nanoseconds since 1970."""

    work_order_id: str
    correlation_id: int
    work_order_status: WorkOrderStatus
    intent_type: str | None
    process_id: str | None
    missing_fields: tuple[str, ...]
    external_approval_pending: bool
    last_event_id: int
    last_updated_at: int
    hot: bool
    """Whether it was updated within the hot window of 72 hours."""


class PendingQuery(NamedTuple):
    """Which list is asked for; `now` and `recency_window` are nanoseconds."""

    tenant_id: str
    requester_user_id: str
    now: int
    status_set: frozenset[str] = PENDING_STATUSES
    recency_window: int = WARM_WINDOW_NS
    top_n: int = DEFAULT_TOP_N


def checked(query: PendingQuery) -> PendingQuery:
    """The query itself. Raises ContractError if it asks for what no list can hold."""
    if not query.status_set <= PENDING_STATUSES:
        raise ContractError(contract_failure("status_set", "status_set may hold DRAFT, CLARIFY and CONFIRM only"))
    if not 1 <= query.top_n <= MAX_TOP_N:
        raise ContractError(contract_failure("top_n", f"top_n is {query.top_n}; it must be from 1 to {MAX_TOP_N}"))
    if query.recency_window < 0:
        raise ContractError(contract_failure("recency_window", "recency_window must not be negative"))
    return query


def is_pending(state: WorkOrder) -> bool:
    """Whether a work order is in its requester's list."""
    return state.last.work_order_status in PENDING_STATUSES and state.origin.requester_user_id is not None


def pending_record(state: WorkOrder) -> PendingRecord | None:
    """The record of a work order as its requester's list holds it, or None if no list does."""
    if not is_pending(state):
        return None
    identity, last = state.identity, state.last
    return PendingRecord(
        work_order_id=identity.work_order_id,
        correlation_id=str(identity.correlation_id),
        work_order_status=last.work_order_status,
        intent_type=state.origin.intent_type,
        process_id=state.origin.process_id,
        missing_fields=state.collected.missing_fields,
        external_approval_pending=state.approval.pending,
        last_event_id=last.last_event_id,
        last_updated_at=last.last_updated_at,
    )


def pending_since(query: PendingQuery) -> int:
    """When a record must have been updated last, or later, to be in the list."""
    return query.now - query.recency_window


def listed(records: Iterable[PendingRecord], query: PendingQuery) -> list[PendingRecord]:
    """Filter, sort and cut: most recent first, ties by work_order_id ascending."""
    since = pending_since(query)
    chosen = [
        record for record in records if record.work_order_status in query.status_set and record.last_updated_at >= since
    ]
    # The database compares ids byte by byte (collate "C"), and so does this.
    chosen.sort(key=lambda record: (-record.last_updated_at, record.work_order_id.encode()))
    return chosen[: query.top_n]


def pending_list(records: Iterable[PendingRecord], query: PendingQuery) -> list[PendingOffer]:
    """The list as its reader gets it."""
    hot_since = query.now - HOT_WINDOW_NS
    return [
        PendingOffer(
            work_order_id=record.work_order_id,
            correlation_id=int(record.correlation_id),
            work_order_status=record.work_order_status,
            intent_type=record.intent_type,
            process_id=record.process_id,
            missing_fields=tuple(record.missing_fields),
            external_approval_pending=record.external_approval_pending,
            last_event_id=record.last_event_id,
            last_updated_at=record.last_updated_at,
            hot=record.last_updated_at >= hot_since,
        )
        for record in listed(records, query)
    ]
