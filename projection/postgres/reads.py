"""The reads (contract, section 1): tenant-scoped, in one pipelined round trip each, enforced by the database."""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol, Self, TypeVar

from core_tables.projection.cache.pending_cache import CachedList, PendingCache
from core_tables.projection.fold.evolve import evolve
from core_tables.projection.fold.pending import PendingOffer, PendingQuery, checked, pending_list
from core_tables.projection.fold.work_order import Attempt, AttemptKey, Lease, WorkOrder
from core_tables.projection.postgres.from_rows import (
    attempt_of_row,
    event_of_row,
    lease_of_row,
    outcome_of_row,
    pending_of_row,
    refusal_of_row,
    state_of_row,
)
from core_tables.projection.postgres.keys import LaneName, RecordName
from core_tables.projection.postgres.lanes import LanePosition, newest_topic
from core_tables.projection.postgres.pipeline import Parameter
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.registrations import RegisteredSchema
from core_tables.projection.postgres.row_types import (
    AttemptRow,
    CurrentRow,
    FoundOutcome,
    LeaseRow,
    LedgerRow,
    OutcomeRow,
    PendingRow,
)
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import lane_of, offset_of, partition_of
from core_tables.schemas.outcomes import ACCEPTED, Outcome, Refused
from core_tables.schemas.reasons import (
    TENANT_SCOPE_VIOLATION,
    ContractError,
    CoreTablesError,
    LaneStoppedError,
    SetupError,
    contract_failure,
)
from core_tables.schemas.topic import LedgerTopic
from core_tables.schemas.validation import TENANT_ID_RULE
from core_tables.schemas.vocabulary import MAX_I64, MAX_U128, UNATTRIBUTED, EventType, WorkOrderStatus
from core_tables.schemas.wire import is_tenant_id

MAX_PAGE: Final = 1000


class _OfTenant(Protocol):
    @property
    def tenant_id(self) -> str | None: ...


_R = TypeVar("_R", bound=_OfTenant)


class LedgerEntry(NamedTuple):
    """A ledger event with its id, and the status of its work order before it (None: there was none yet)."""

    work_order_event_id: int
    event: LedgerEvent
    status_before: WorkOrderStatus | None


class RefusedRecord(NamedTuple):
    """A record that was refused, by its event id, and what names the request, as far as it could be read."""

    event_id: int
    work_order_id: str | None
    outcome: Refused
    event_type: EventType | None
    correlation_id: int | None
    turn_id: int | None
    idempotency_key: str | None
    created_at: int | None


class DueRetry(NamedTuple):
    """A step attempt whose retry is due."""

    work_order_id: str
    key: AttemptKey
    attempt: Attempt


class ExpiredLease(NamedTuple):
    """A lease that is ACTIVE but past its time."""

    work_order_id: str
    lease: Lease


class PendingAnswer(NamedTuple):
    """A pending list, the offset of the tenant's lane it is true at, and whether the cache gave it."""

    offers: list[PendingOffer]
    position: int
    from_cache: bool


class Reads:
    """The reads, as the reader's role; the cache is optional. Thread-safe, and right in a forked process.

    Each read raises UnavailableError if Postgres has not answered within READ_TIMEOUT_S, or by the deadline of `until`.
    """

    def __init__(self, pool: ReadPool, cache: PendingCache | None = None) -> None:
        self._pool = pool
        self._cache = cache
        self._deadline: float | None = None
        self._topic: LedgerTopic | None = None

    def until(self, deadline: float) -> Self:
        """The same reads, each of which ends by `deadline` (monotonic seconds). They share the connections."""
        limited = copy.copy(self)
        limited._deadline = deadline
        return limited

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def current(self, tenant_id: str, work_order_id: str) -> WorkOrder | None:
        """The current record of a work order, without its attempts and leases; None if there is none."""
        rows = self._tenant_rows(CurrentRow, tenant_id, "read_current", work_order_id=work_order_id)
        return state_of_row(rows[0]) if rows else None

    def current_by_correlation(self, tenant_id: str, correlation_id: int) -> WorkOrder | None:
        """The current record that a correlation_id is bound to."""
        if not 0 < correlation_id <= MAX_U128:
            raise ContractError(contract_failure("correlation_id", "correlation_id must be from 1 to 2^128-1"))
        rows = self._tenant_rows(
            CurrentRow, tenant_id, "read_current_by_correlation", correlation_id=str(correlation_id)
        )
        return state_of_row(rows[0]) if rows else None

    def ledger(
        self,
        tenant_id: str,
        work_order_id: str | None = None,
        *,
        first_id: int = 1,
        last_id: int = MAX_I64,
        page_size: int = MAX_PAGE,
    ) -> list[LedgerEntry]:
        """A page of ledger events in work_order_event_id order, from `first_id` to `last_id`, both included."""
        _check_page(page_size)
        if work_order_id is None:
            rows = self._tenant_rows(
                LedgerRow, tenant_id, "read_ledger", first_id=first_id, last_id=last_id, page_size=page_size
            )
        else:
            rows = self._tenant_rows(
                LedgerRow,
                tenant_id,
                "read_ledger_of_work_order",
                work_order_id=work_order_id,
                first_id=first_id,
                last_id=last_id,
                page_size=page_size,
            )
        return [LedgerEntry(row.work_order_event_id, event_of_row(row), row.status_before) for row in rows]

    def current_at(self, tenant_id: str, work_order_id: str, event_id: int) -> WorkOrder | None:
        """The record as it was when `event_id` was the tenant's newest event: its events up to there, folded."""
        checked_parameters(tenant_id, event_id=event_id)
        state: WorkOrder | None = None
        first_id = 1
        while entries := self.ledger(tenant_id, work_order_id, first_id=first_id, last_id=event_id):
            for entry in entries:
                state = evolve(state, entry.event, entry.work_order_event_id)
            first_id = entries[-1].work_order_event_id + 1
        return state

    def outcomes(self, tenant_id: str, event_ids: Sequence[int]) -> dict[int, Outcome]:
        """The outcomes of a tenant's records by position id; one that is still to be folded is left out."""
        return self.outcomes_of({tenant_id: event_ids})

    def outcomes_of(self, event_ids: Mapping[str, Collection[int]]) -> dict[int, Outcome]:
        """The outcomes of records of several tenants, in one round trip: each tenant's statement sees that tenant only."""
        for tenant_id, ids in event_ids.items():
            checked_parameters(tenant_id, event_ids=list(ids))
        with self._pool.transaction(self._deadline) as pipeline:
            answers = {}
            for tenant_id, ids in event_ids.items():
                asked = [RecordName(tenant_id, event_id) for event_id in ids]
                pipeline.add("set_tenant", tenant_id)
                answers[tenant_id] = pipeline.fetch(FoundOutcome, "read_outcomes", asked)
        rows = [row for tenant_id, answer in answers.items() for row in rows_of_tenant(tenant_id, answer.rows)]
        return {row.event_id: ACCEPTED if row.accepted else outcome_of_row(row) for row in rows}

    def outcome(self, tenant_id: str, event_id: int) -> Outcome | None:
        """The outcome of one record; None while it is pending."""
        return self.outcomes(tenant_id, [event_id]).get(event_id)

    def applied_of(self, lanes: Collection[int]) -> dict[int, int]:
        """By lane, how far it is folded: the next offset to do."""
        with self._pool.transaction(self._deadline) as pipeline:
            answer = pipeline.fetch(LanePosition, "load_lanes", [LaneName(lane) for lane in lanes])
        applied = {row.lane: row.applied for row in answer.rows}
        for lane in lanes:
            if lane not in applied:
                raise SetupError(f"lane {lane} is not known to this database; run `core-tables init`", "database")
        return applied

    def attempts(self, tenant_id: str, work_order_id: str) -> dict[AttemptKey, Attempt]:
        """The step attempts of a work order, by step_id and attempt_index."""
        rows = self._tenant_rows(AttemptRow, tenant_id, "read_attempts", work_order_id=work_order_id)
        return dict(map(attempt_of_row, rows))

    def active_lease(self, tenant_id: str, work_order_id: str, now: int) -> Lease | None:
        """The lease of a work order that is active at `now` (ns)."""
        rows = self._tenant_rows(LeaseRow, tenant_id, "read_active_lease", work_order_id=work_order_id, now=now)
        return lease_of_row(rows[0]) if rows else None

    def due_retries(self, tenant_id: str, now: int, limit: int = MAX_PAGE) -> list[DueRetry]:
        """The attempts whose retry is due at `now` (ns), longest due first."""
        _check_page(limit)
        rows = self._tenant_rows(AttemptRow, tenant_id, "read_due_retries", now=now, limit=limit)
        return [DueRetry(row.work_order_id, *attempt_of_row(row)) for row in rows]

    def expired_leases(self, tenant_id: str, now: int, limit: int = MAX_PAGE) -> list[ExpiredLease]:
        """The leases that are expired at `now` (ns) though nobody was granted another, longest expired first."""
        _check_page(limit)
        rows = self._tenant_rows(LeaseRow, tenant_id, "read_expired_leases", now=now, limit=limit)
        return [ExpiredLease(row.work_order_id, lease_of_row(row)) for row in rows]

    def refused(self, tenant_id: str, *, before: int = MAX_I64, page_size: int = MAX_PAGE) -> list[RefusedRecord]:
        """The refused records of a tenant, newest first, below position id `before`."""
        _check_page(page_size)
        rows = self._tenant_rows(OutcomeRow, tenant_id, "read_refused", before=before, page_size=page_size)
        return list(map(refused_record, rows))

    def pending(self, query: PendingQuery, *, at_least: int = 0) -> PendingAnswer:
        """The pending list of a requester; cache and Postgres answer the same at the same position.

        A cached list from before event `at_least` is passed over: a caller that knows the outcome of an append sees its effect.
        """
        checked(query)
        checked_parameters(query.tenant_id, requester_user_id=query.requester_user_id)
        lane = self.lane_of_tenant(query.tenant_id)
        cached = CachedList(None, None)
        if self._cache is not None:
            cached = self._cache.read(lane, query.tenant_id, query.requester_user_id)
            if cached.records is not None and cached.position is not None and _covers(lane, cached.position, at_least):
                return PendingAnswer(pending_list(cached.records, query), cached.position, from_cache=True)
        rows = self._tenant_rows(
            PendingRow, query.tenant_id, "read_pending", requester_user_id=query.requester_user_id, lane=lane
        )
        if not rows:
            raise SetupError(f"lane {lane} is not known to this database; run `core-tables init`", "database")
        first = rows[0]
        records = [record for record in map(pending_of_row, rows) if record is not None]
        if self._cache is not None and cached.label is not None and cached.labelled(first.epoch, first.applied):
            self._cache.fill(cached.label, lane, (query.tenant_id, query.requester_user_id), records)
        return PendingAnswer(pending_list(records, query), first.applied, from_cache=False)

    def topics(self) -> list[LedgerTopic]:
        """The topics of the ledger, oldest first."""
        with self._pool.transaction(self._deadline) as pipeline:
            answer = pipeline.fetch(LedgerTopic, "load_topics")
        return answer.rows

    def registered_fingerprints(self, lane: int) -> set[str]:
        """The writer schemas that are registered for a lane (contract, section 2, "Schemas")."""
        with self._pool.transaction(self._deadline) as pipeline:
            answer = pipeline.fetch(RegisteredSchema, "load_schemas", lane, lane)
        return {row.fingerprint for row in answer.rows}

    def lane_of_tenant(self, tenant_id: str) -> int:
        """The lane that holds a tenant's newest records. Raises SetupError if the database knows no topic."""
        if self._topic is None:
            self._topic = newest_topic(self.topics())
        return self._topic.first_lane + partition_of(tenant_id.encode(), self._topic.partitions)

    def _tenant_rows(self, kind: type[_R], tenant_id: str, statement: str, **parameters: Parameter) -> list[_R]:
        """Run one statement that may see one tenant: setting and statement go in one round trip.

        The tenant is the statement's first parameter, the others follow in their order.
        """
        checked_parameters(tenant_id, **parameters)
        with self._pool.transaction(self._deadline) as pipeline:
            pipeline.add("set_tenant", tenant_id)
            answer = pipeline.fetch(kind, statement, tenant_id, *parameters.values())
        return rows_of_tenant(tenant_id, answer.rows)


def rows_of_tenant(tenant_id: str, rows: list[_R]) -> list[_R]:
    """The rows. Raises CoreTablesError if one is of another tenant.

    The database sees to that. But a connection that is shared wrongly answers what another program asked.
    """
    if not {row.tenant_id for row in rows} <= {tenant_id, None}:
        raise CoreTablesError(
            "Postgres answered with rows of another tenant, and none of them was returned; see that no other process or "
            "thread uses the connection of these reads",
            reason_code=TENANT_SCOPE_VIOLATION,
        )
    return rows


def checked_parameters(tenant_id: str, **parameters: object) -> None:
    """Raises ContractError, naming it, for a parameter of a read that no column could hold."""
    if not is_tenant_id(tenant_id) and tenant_id != UNATTRIBUTED:
        raise ContractError(contract_failure("tenant_id", TENANT_ID_RULE))
    for name, value in parameters.items():
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, str) and not _is_text(item):
                raise ContractError(contract_failure(name, f"{name} must be valid UTF-8 without U+0000"))
            if isinstance(item, int) and not -MAX_I64 <= item <= MAX_I64:
                raise ContractError(contract_failure(name, f"{name} does not fit into 64 bits"))


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return "\0" not in value


def refused_record(row: OutcomeRow) -> RefusedRecord:
    """The record that a row of read_refused.sql tells of."""
    return RefusedRecord(
        event_id=row.event_id,
        work_order_id=row.work_order_id,
        outcome=refusal_of_row(row),
        event_type=row.event_type,
        correlation_id=None if row.correlation_id is None else int(row.correlation_id),
        turn_id=row.turn_id,
        idempotency_key=row.idempotency_key,
        created_at=row.created_at,
    )


def folded_past(applied: int, event_id: int) -> bool:
    """Whether a lane that is folded up to offset `applied` has decided about the record `event_id`."""
    return offset_of(event_id) < applied


def _covers(lane: int, applied: int, event_id: int) -> bool:
    return event_id == 0 or lane_of(event_id) < lane or (lane_of(event_id) == lane and folded_past(applied, event_id))


def missing_outcome(event_id: int) -> LaneStoppedError:
    """The error of a record that was folded but has no outcome that its reader can see."""
    return LaneStoppedError(
        f"record {event_id} of lane {lane_of(event_id)} was folded, but no outcome of it belongs to this tenant; "
        "it may have been misrouted: an operator finds it with `core-tables refused`"
    )


def _check_page(size: int) -> None:
    if not 1 <= size <= MAX_PAGE:
        raise ContractError(contract_failure("page_size", f"page_size is {size}; it must be from 1 to {MAX_PAGE}"))
