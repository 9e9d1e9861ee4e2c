"""The reads of records: events of the ledger, outcomes, refusals, and all of one correlation."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from core_tables.projection.fold.evolve import evolve
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.projection.postgres.from_rows import event_of_row, outcome_of_row, refusal_of_row
from core_tables.projection.postgres.keys import RecordName
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.read_types import CurrentRecord, record_of_state
from core_tables.projection.postgres.record_reads import correlation_text
from core_tables.projection.postgres.row_types import FoundOutcome, LedgerRow, OutcomeRow, RecordRow
from core_tables.projection.postgres.tenant_reads import (
    MAX_PAGE,
    Cursor,
    Order,
    Page,
    TenantReads,
    check_page,
    checked_cursor,
    checked_parameters,
    checked_values,
    merged,
    page_of,
    rows_of_tenant,
)
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import lane_of
from core_tables.schemas.outcomes import ACCEPTED, Outcome, Refused
from core_tables.schemas.vocabulary import MAX_I64, EventType, WorkOrderStatus

_BY_CREATION: Final[Order] = {"created_at": 0, "work_order_event_id": 0}
_BY_ID: Final[Order] = {"event_id": 0}


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


class DecidedRecord(NamedTuple):
    """A record and its outcome: the whole event if it was accepted, and otherwise what is kept of the request."""

    event_id: int
    outcome: Outcome
    work_order_id: str | None
    event_type: EventType | None
    turn_id: int | None
    idempotency_key: str | None
    created_at: int | None
    event: LedgerEvent | None


class LedgerReads(TenantReads):
    """The reads of records that the ledger topic holds."""

    def ledger(
        self,
        tenant_id: str,
        work_order_id: str | None = None,
        *,
        first_id: int = 1,
        last_id: int = MAX_I64,
        after: Cursor | None = None,
        page_size: int = MAX_PAGE,
        at_least: int = 0,
    ) -> Page[LedgerEntry]:
        """A page of ledger events in work_order_event_id order, from `first_id` to `last_id`, both included."""
        # Both ends of the range of a work order name it.
        of_one: dict[str, Any] = {} if work_order_id is None else {"work_order_id": work_order_id}
        above: dict[str, Any] = {} if work_order_id is None else {"after_work_order_id": work_order_id}
        return self._page(
            LedgerRow,
            tenant_id,
            "read_ledger" if work_order_id is None else "read_ledger_of_work_order",
            _above("work_order_event_id", first_id),
            after=after,
            page_size=page_size,
            at_least=at_least,
            **of_one,
            last_id=last_id,
            **above,
        ).made(_entry)

    def ledger_by_creation(
        self,
        tenant_id: str,
        created_from: int = 0,
        created_to: int = MAX_I64,
        *,
        after: Cursor | None = None,
        page_size: int = MAX_PAGE,
        at_least: int = 0,
    ) -> Page[LedgerEntry]:
        """A page of the ledger events whose created_at (ns) is in a range, both ends included, oldest first."""
        return self._page(
            LedgerRow,
            tenant_id,
            "read_ledger_by_creation",
            _BY_CREATION,
            after=after,
            page_size=page_size,
            at_least=at_least,
            created_from=created_from,
            created_to=created_to,
        ).made(_entry)

    def bound_event(
        self, tenant_id: str, work_order_id: str, idempotency_key: str, *, at_least: int = 0
    ) -> LedgerEntry | None:
        """The event of a work order that an idempotency key is bound to; None if it is free."""
        rows = self._tenant_rows(
            LedgerRow,
            tenant_id,
            "read_bound_event",
            at_least=at_least,
            work_order_id=work_order_id,
            idempotency_key=idempotency_key,
        )
        return _entry(rows[0]) if rows else None

    def records_of_correlation(
        self,
        tenant_id: str,
        correlation_id: int,
        *,
        first_id: int = 1,
        after: Cursor | None = None,
        page_size: int = MAX_PAGE,
        at_least: int = 0,
    ) -> Page[DecidedRecord]:
        """A page of the records that carry a correlation_id, refused and replayed ones included, from `first_id` on.

        In the order of their event ids. A record that was too damaged to be read carries none.
        """
        check_page(page_size)
        number = correlation_text(correlation_id)
        (last_seen,) = checked_cursor(after, _above("event_id", first_id)).values()
        rows = self._tenant_rows(
            RecordRow,
            tenant_id,
            "read_records_of_correlation",
            at_least=at_least,
            correlation=number,
            after=last_seen,
            limit=page_size + 1,
        )
        records = [_decided_record(row, number) for row in merged(tenant_id, rows, _BY_ID, page_size + 1)]
        return page_of(
            records,
            _BY_ID,
            page_size,
            lambda cursor: self.records_of_correlation(
                tenant_id, correlation_id, after=cursor, page_size=page_size, at_least=at_least
            ),
        )

    def current_at(
        self, tenant_id: str, work_order_id: str, event_id: int, *, at_least: int = 0
    ) -> CurrentRecord | None:
        """The record as it was when `event_id` was the tenant's newest event: its events up to there, folded."""
        checked_values(event_id=event_id)
        state: WorkOrder | None = None
        page = self.ledger(tenant_id, work_order_id, last_id=event_id, at_least=at_least)
        for entry in page.all():
            state = evolve(state, entry.event, entry.work_order_event_id)
        return None if state is None else record_of_state(state)

    def outcomes(self, tenant_id: str, event_ids: Sequence[int]) -> dict[int, Outcome]:
        """The outcomes of a tenant's records by position id; one that is still to be folded is left out."""
        return self.outcomes_of({tenant_id: event_ids})

    def outcomes_of(self, event_ids: Mapping[str, Collection[int]]) -> dict[int, Outcome]:
        """The outcomes of records of several tenants, in one round trip to each database that has some of them.

        Each tenant's statement sees that tenant only.
        """
        by_pool: dict[ReadPool, dict[str, list[RecordName]]] = {}
        for tenant_id, ids in event_ids.items():
            checked_parameters(tenant_id, event_ids=list(ids))
            for event_id in ids:
                asked = by_pool.setdefault(self._pools.of_lane(lane_of(event_id)), {})
                asked.setdefault(tenant_id, []).append(RecordName(tenant_id, event_id))
        rows: list[FoundOutcome] = []
        for pool, asked in by_pool.items():
            answers = {}
            with pool.transaction(self._deadline) as pipeline:
                for tenant_id, names in asked.items():
                    pipeline.add("set_tenant", tenant_id)
                    answers[tenant_id] = pipeline.fetch(FoundOutcome, "read_outcomes", names)
            rows += [row for tenant_id, answer in answers.items() for row in rows_of_tenant(tenant_id, answer.rows)]
        return {row.event_id: ACCEPTED if row.accepted else outcome_of_row(row) for row in rows}

    def outcome(self, tenant_id: str, event_id: int) -> Outcome | None:
        """The outcome of one record; None while it is pending."""
        return self.outcomes(tenant_id, [event_id]).get(event_id)

    def refused(
        self,
        tenant_id: str,
        *,
        before: int = MAX_I64,
        after: Cursor | None = None,
        page_size: int = MAX_PAGE,
        at_least: int = 0,
    ) -> Page[RefusedRecord]:
        """A page of the refused records of a tenant, newest first, below event id `before`."""
        checked_values(before=before)
        return self._page(
            OutcomeRow,
            tenant_id,
            "read_refused",
            {"event_id": before},
            after=after,
            page_size=page_size,
            at_least=at_least,
            newest_first=True,
        ).made(refused_record)


def _above(column: str, first_id: int) -> Order:
    """The order of ids from `first_id` on."""
    checked_values(first_id=first_id)
    return {column: max(0, first_id - 1)}


def _entry(row: LedgerRow) -> LedgerEntry:
    return LedgerEntry(row.work_order_event_id, event_of_row(row), row.status_before)


def _decided_record(row: RecordRow, correlation_id: str) -> DecidedRecord:
    columns = {**row.columns, "correlation_id": correlation_id}
    found: LedgerRow | OutcomeRow = LedgerRow(**columns) if row.accepted else OutcomeRow(**columns)
    return DecidedRecord(
        event_id=row.event_id,
        outcome=ACCEPTED if isinstance(found, LedgerRow) else outcome_of_row(found),
        work_order_id=found.work_order_id,
        event_type=found.event_type,
        turn_id=found.turn_id,
        idempotency_key=found.idempotency_key,
        created_at=found.created_at,
        event=event_of_row(found) if isinstance(found, LedgerRow) else None,
    )


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
