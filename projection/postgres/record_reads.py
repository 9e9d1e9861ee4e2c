"""The reads of work orders: current records, step attempts, leases."""

from typing import Final, NamedTuple

from msgspec.structs import replace

from core_tables.projection.fold.work_order import Attempt, AttemptKey, Lease, WorkOrder
from core_tables.projection.postgres.from_rows import attempt_of_row, lease_of_row, state_of_row
from core_tables.projection.postgres.row_types import AttemptRow, ClosedRow, CurrentRow, LeaseRow, WholeRow
from core_tables.projection.postgres.tenant_reads import MAX_PAGE, Cursor, Order, Page, TenantReads, check_page
from core_tables.schemas.reasons import ContractError, contract_failure
from core_tables.schemas.vocabulary import MAX_U128, STATUSES, WorkOrderStatus

_BY_NAME: Final[Order] = {"work_order_id": ""}


class ClosedWorkOrder(NamedTuple):
    """A work order that the event `closing_event_id` closed, as it is now: it may have been opened again since."""

    closing_event_id: int
    current: WorkOrder


class RecordReads(TenantReads):
    """The reads of work orders as they are now."""

    def current(self, tenant_id: str, work_order_id: str) -> WorkOrder | None:
        """The current record of a work order, without its attempts and leases; None if there is none."""
        rows = self._tenant_rows(CurrentRow, tenant_id, "read_current", work_order_id=work_order_id)
        return state_of_row(rows[0]) if rows else None

    def current_by_correlation(self, tenant_id: str, correlation_id: int) -> WorkOrder | None:
        """The current record that a correlation_id is bound to, without its attempts and leases."""
        number = correlation_text(correlation_id)
        rows = self._tenant_rows(CurrentRow, tenant_id, "read_current_by_correlation", correlation_id=number)
        return state_of_row(rows[0]) if rows else None

    def work_order(self, tenant_id: str, work_order_id: str) -> WorkOrder | None:
        """A work order with all its attempts and its last lease, all as of the event `last.last_event_id`.

        A lease that is ACTIVE, expired or not, is in `lease`; one that has ended is in `closed_leases`.
        """
        rows = self._tenant_rows(WholeRow, tenant_id, "read_work_order", work_order_id=work_order_id)
        return _whole(rows[0]) if rows else None

    def current_by_status(
        self, tenant_id: str, status: WorkOrderStatus, *, after: Cursor | None = None, page_size: int = MAX_PAGE
    ) -> Page[WorkOrder]:
        """A page of the current records in one status, by work_order_id, without their attempts and leases."""
        if status not in STATUSES:
            raise ContractError(
                contract_failure("work_order_status", f"work_order_status must be one of {', '.join(STATUSES)}")
            )
        page = self._page(
            CurrentRow, tenant_id, "read_current_by_status", _BY_NAME, status=status, after=after, page_size=page_size
        )
        return page.made(state_of_row)

    def closed_after(self, tenant_id: str, event_id: int, *, page_size: int = MAX_PAGE) -> list[ClosedWorkOrder]:
        """A page of the work orders that events after `event_id` closed, in the order of those events.

        One that was opened again and closed again is there twice. The next page is that after the last `closing_event_id`.
        """
        check_page(page_size)
        rows = self._tenant_rows(ClosedRow, tenant_id, "read_closed", event_id=event_id, page_size=page_size)
        return [ClosedWorkOrder(row.closing_event_id, state_of_row(row)) for row in rows]

    def attempts(
        self,
        tenant_id: str,
        work_order_id: str,
        *,
        after: AttemptKey = ("", 0),
        page_size: int = MAX_PAGE,
    ) -> dict[AttemptKey, Attempt]:
        """A page of the step attempts of a work order, by step_id and attempt_index; the next is that after the last key."""
        check_page(page_size)
        step_id, attempt_index = after
        rows = self._tenant_rows(
            AttemptRow,
            tenant_id,
            "read_attempts",
            work_order_id=work_order_id,
            step_id=step_id,
            attempt_index=attempt_index,
            page_size=page_size,
        )
        return dict(map(attempt_of_row, rows))

    def active_lease(self, tenant_id: str, work_order_id: str, now: int) -> Lease | None:
        """The lease of a work order that is active at `now` (ns)."""
        rows = self._tenant_rows(LeaseRow, tenant_id, "read_active_lease", work_order_id=work_order_id, now=now)
        return lease_of_row(rows[0]) if rows else None

    def last_lease(self, tenant_id: str, work_order_id: str) -> Lease | None:
        """The lease of a work order that was granted last, whatever became of it; None if there never was one."""
        rows = self._tenant_rows(LeaseRow, tenant_id, "read_last_lease", work_order_id=work_order_id)
        return lease_of_row(rows[0]) if rows else None


def correlation_text(correlation_id: int) -> str:
    """A correlation_id as statements take it. Raises ContractError for a number that is none."""
    if not 0 < correlation_id <= MAX_U128:
        raise ContractError(contract_failure("correlation_id", "correlation_id must be from 1 to 2^128-1"))
    return str(correlation_id)


def _whole(row: WholeRow) -> WorkOrder:
    attempts = dict(attempt_of_row(AttemptRow(**columns)) for columns in row.attempts)
    lease = None if row.last_lease is None else lease_of_row(LeaseRow(**row.last_lease))
    if lease is None or lease.lease_state == "ACTIVE":
        return replace(state_of_row(row), attempts=attempts, lease=lease)
    return replace(state_of_row(row), attempts=attempts, closed_leases=(lease,))
