"""The reads of work orders: current records, step attempts, leases."""

from typing import Final

from core_tables.projection.postgres.read_types import (
    ClosedWorkOrder,
    CurrentRecord,
    GrantedLease,
    StepAttempt,
    WholeWorkOrder,
    closed_work_order,
    current_record,
    granted_lease,
    step_attempt,
    whole_work_order,
)
from core_tables.projection.postgres.row_types import AttemptRow, ClosedRow, CurrentRow, LeaseRow, WholeRow
from core_tables.projection.postgres.tenant_reads import (
    MAX_PAGE,
    Cursor,
    Order,
    Page,
    TenantReads,
    check_page,
    checked_values,
)
from core_tables.schemas.reasons import ContractError, contract_failure
from core_tables.schemas.vocabulary import MAX_I64, MAX_U128, STATUSES, WorkOrderStatus

_BY_NAME: Final[Order] = {"work_order_id": ""}
_BY_STEP: Final[Order] = {"step_id": "", "attempt_index": 0}


class RecordReads(TenantReads):
    """The reads of work orders as they are now."""

    def current(self, tenant_id: str, work_order_id: str, *, at_least: int = 0) -> CurrentRecord | None:
        """The current record of a work order; None if there is none."""
        rows = self._tenant_rows(CurrentRow, tenant_id, "read_current", at_least=at_least, work_order_id=work_order_id)
        return current_record(rows[0]) if rows else None

    def current_by_correlation(self, tenant_id: str, correlation_id: int, *, at_least: int = 0) -> CurrentRecord | None:
        """The current record that a correlation_id is bound to."""
        rows = self._tenant_rows(
            CurrentRow,
            tenant_id,
            "read_current_by_correlation",
            at_least=at_least,
            correlation_id=correlation_text(correlation_id),
        )
        return current_record(rows[0]) if rows else None

    def work_order(self, tenant_id: str, work_order_id: str, *, at_least: int = 0) -> WholeWorkOrder | None:
        """A work order with all its attempts and its last lease, all as of one event."""
        rows = self._tenant_rows(WholeRow, tenant_id, "read_work_order", at_least=at_least, work_order_id=work_order_id)
        return whole_work_order(rows[0]) if rows else None

    def current_by_status(
        self,
        tenant_id: str,
        status: WorkOrderStatus,
        *,
        after: Cursor | None = None,
        page_size: int = MAX_PAGE,
        at_least: int = 0,
    ) -> Page[CurrentRecord]:
        """A page of the current records in one status, by work_order_id."""
        if status not in STATUSES:
            raise ContractError(
                contract_failure("work_order_status", f"work_order_status must be one of {', '.join(STATUSES)}")
            )
        return self._page(
            CurrentRow,
            tenant_id,
            "read_current_by_status",
            _BY_NAME,
            after=after,
            page_size=page_size,
            at_least=at_least,
            status=status,
            after_status=status,
        ).made(current_record)

    def closed_after(
        self,
        tenant_id: str,
        event_id: int,
        *,
        after: Cursor | None = None,
        page_size: int = MAX_PAGE,
        at_least: int = 0,
    ) -> Page[ClosedWorkOrder]:
        """A page of the work orders that events after `event_id` closed, in the order of those events.

        One that was opened again and closed again is there twice.
        """
        checked_values(event_id=event_id)
        return self._page(
            ClosedRow,
            tenant_id,
            "read_closed",
            {"closing_event_id": event_id},
            after=after,
            page_size=page_size,
            at_least=at_least,
        ).made(closed_work_order)

    def closed_before(
        self,
        tenant_id: str,
        event_id: int = MAX_I64,
        *,
        after: Cursor | None = None,
        page_size: int = MAX_PAGE,
        at_least: int = 0,
    ) -> Page[ClosedWorkOrder]:
        """A page of the work orders that events before `event_id` closed, the newest of these events first.

        One that was opened again and closed again is there twice.
        """
        checked_values(event_id=event_id)
        return self._page(
            ClosedRow,
            tenant_id,
            "read_newest_closed",
            {"closing_event_id": event_id},
            after=after,
            page_size=page_size,
            at_least=at_least,
        ).made(closed_work_order)

    def open_of_requester(
        self, tenant_id: str, requester_user_id: str, *, page_size: int = MAX_PAGE, at_least: int = 0
    ) -> list[CurrentRecord]:
        """Open work orders of a requester, whatever their status, in no order: all of them if `page_size` is not reached.

        There is no next page: no index has an order for one. Those that can be resumed are in `pending`.
        """
        check_page(page_size)
        rows = self._tenant_rows(
            CurrentRow,
            tenant_id,
            "read_open_of_requester",
            at_least=at_least,
            requester_user_id=requester_user_id,
            page_size=page_size,
        )
        return list(map(current_record, rows))

    def attempts(
        self,
        tenant_id: str,
        work_order_id: str,
        *,
        after: Cursor | None = None,
        page_size: int = MAX_PAGE,
        at_least: int = 0,
    ) -> Page[StepAttempt]:
        """A page of the step attempts of a work order, by step_id and attempt_index."""
        return self._page(
            AttemptRow,
            tenant_id,
            "read_attempts",
            _BY_STEP,
            after=after,
            page_size=page_size,
            at_least=at_least,
            work_order_id=work_order_id,
        ).made(step_attempt)

    def active_lease(self, tenant_id: str, work_order_id: str, now: int, *, at_least: int = 0) -> GrantedLease | None:
        """The lease of a work order that is active at `now` (ns)."""
        rows = self._tenant_rows(
            LeaseRow, tenant_id, "read_active_lease", at_least=at_least, work_order_id=work_order_id, now=now
        )
        return granted_lease(rows[0]) if rows else None

    def last_lease(self, tenant_id: str, work_order_id: str, *, at_least: int = 0) -> GrantedLease | None:
        """The lease of a work order that was granted last, whatever became of it; None if there never was one."""
        rows = self._tenant_rows(LeaseRow, tenant_id, "read_last_lease", at_least=at_least, work_order_id=work_order_id)
        return granted_lease(rows[0]) if rows else None


def correlation_text(correlation_id: int) -> str:
    """A correlation_id as statements take it. Raises ContractError for a number that is none."""
    if not 0 < correlation_id <= MAX_U128:
        raise ContractError(contract_failure("correlation_id", "correlation_id must be from 1 to 2^128-1"))
    return str(correlation_id)
