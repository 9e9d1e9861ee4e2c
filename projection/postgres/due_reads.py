"""What is due: retries, timeouts, expired leases, approvals. Of open work orders only; a closed one is history."""

from typing import Final, NamedTuple

from core_tables.projection.fold.work_order import Attempt, AttemptKey, Lease, WorkOrder
from core_tables.projection.postgres.from_rows import attempt_of_row, lease_of_row, state_of_row
from core_tables.projection.postgres.row_types import CurrentRow, DueAttemptRow, LeaseRow
from core_tables.projection.postgres.tenant_reads import (
    MAX_PAGE,
    Cursor,
    Order,
    Page,
    TenantReads,
    check_page,
    checked_values,
)
from core_tables.schemas.vocabulary import AttemptStatus

_BY_ATTEMPT: Final[Order] = {"due_at": 0, "work_order_id": "", "step_id": "", "attempt_index": 0}
_BY_LEASE: Final[Order] = {"due_at": 0, "work_order_id": ""}
_BY_EXPIRY: Final[Order] = {"external_approval_expires_at": 0, "work_order_id": ""}


class DueRetry(NamedTuple):
    """A step attempt whose retry is due, and why its work order failed last, if it ever did."""

    work_order_id: str
    key: AttemptKey
    attempt: Attempt
    last_failure_reason_code: int | None


class TimedOutStep(NamedTuple):
    """A step attempt that still runs, though its timeout was reached at `timed_out_at` (ns)."""

    work_order_id: str
    key: AttemptKey
    attempt: Attempt
    timed_out_at: int


class ExpiredLease(NamedTuple):
    """A lease that is ACTIVE but past its time."""

    work_order_id: str
    lease: Lease


class DueTenant(NamedTuple):
    """A tenant that has something due, and how much of each kind; 1,000 stands for any larger number."""

    tenant_id: str
    retries: int
    timed_out_steps: int
    expired_leases: int
    expired_approvals: int


class DueReads(TenantReads):
    """The reads of what somebody must act on at a time."""

    def due_retries(
        self, tenant_id: str, now: int, *, after: Cursor | None = None, page_size: int = MAX_PAGE
    ) -> Page[DueRetry]:
        """A page of the attempts whose retry is due at `now` (ns), longest due first."""
        return self._due_attempts(tenant_id, "SCHEDULED", now, after, page_size).made(
            lambda row: DueRetry(row.work_order_id, *attempt_of_row(row), row.last_failure_reason_code)
        )

    def timed_out_steps(
        self, tenant_id: str, now: int, *, after: Cursor | None = None, page_size: int = MAX_PAGE
    ) -> Page[TimedOutStep]:
        """A page of the attempts that run longer than their timeout at `now` (ns), longest timed out first."""
        return self._due_attempts(tenant_id, "RUNNING", now, after, page_size).made(
            lambda row: TimedOutStep(row.work_order_id, *attempt_of_row(row), row.due_at or 0)
        )

    def expired_leases(
        self, tenant_id: str, now: int, *, after: Cursor | None = None, page_size: int = MAX_PAGE
    ) -> Page[ExpiredLease]:
        """A page of the leases that are expired at `now` (ns) though nobody was granted another, longest expired first."""
        page = self._page(
            LeaseRow, tenant_id, "read_expired_leases", _BY_LEASE, now=now, after=after, page_size=page_size
        )
        return page.made(lambda row: ExpiredLease(row.work_order_id, lease_of_row(row)))

    def expired_approvals(
        self, tenant_id: str, now: int, *, after: Cursor | None = None, page_size: int = MAX_PAGE
    ) -> Page[WorkOrder]:
        """A page of the work orders that wait for an approval that is expired at `now` (ns), longest expired first."""
        page = self._page(
            CurrentRow,
            tenant_id,
            "read_expired_approvals",
            _BY_EXPIRY,
            now=now,
            after=after,
            page_size=page_size,
        )
        return page.made(state_of_row)

    def awaited_approvals(
        self, tenant_id: str, target_user_id: str, *, after: Cursor | None = None, page_size: int = MAX_PAGE
    ) -> Page[WorkOrder]:
        """A page of the work orders that wait for the approval of one user, the first to expire first; expired ones too."""
        page = self._page(
            CurrentRow,
            tenant_id,
            "read_awaited_approvals",
            _BY_EXPIRY,
            target_user_id=target_user_id,
            after=after,
            page_size=page_size,
        )
        return page.made(state_of_row)

    def due_tenants(self, now: int, *, after: str = "", page_size: int = MAX_PAGE) -> list[DueTenant]:
        """A page of the tenants that have something due at `now` (ns), by tenant_id, after a tenant.

        For a login with the role core_tables_scheduler; another gets SetupError. What is due, the reader's reads say.
        """
        check_page(page_size)
        checked_values(now=now, after=after)
        with self._pool.transaction(self._deadline) as pipeline:
            answer = pipeline.fetch(DueTenant, "read_due_tenants", now, after, page_size)
        return answer.rows

    def _due_attempts(
        self, tenant_id: str, status: AttemptStatus, now: int, after: Cursor | None, page_size: int
    ) -> Page[DueAttemptRow]:
        return self._page(
            DueAttemptRow,
            tenant_id,
            "read_due_attempts",
            _BY_ATTEMPT,
            status=status,
            now=now,
            after=after,
            page_size=page_size,
        )
