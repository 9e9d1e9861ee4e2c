"""What is due: retries, timeouts, expired leases. Of open work orders only; a closed one is history."""

from typing import Final, NamedTuple

from core_tables.projection.fold.work_order import Attempt, AttemptKey, Lease
from core_tables.projection.postgres.from_rows import attempt_of_row, lease_of_row
from core_tables.projection.postgres.row_types import DueAttemptRow, LeaseRow
from core_tables.projection.postgres.tenant_reads import MAX_PAGE, Cursor, Order, Page, TenantReads
from core_tables.schemas.vocabulary import AttemptStatus

ATTEMPT_ORDER: Final[Order] = {"due_at": 0, "work_order_id": "", "step_id": "", "attempt_index": 0}
LEASE_ORDER: Final[Order] = {"due_at": 0, "work_order_id": ""}


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
            LeaseRow, tenant_id, "read_expired_leases", LEASE_ORDER, now=now, after=after, page_size=page_size
        )
        return page.made(lambda row: ExpiredLease(row.work_order_id, lease_of_row(row)))

    def _due_attempts(
        self, tenant_id: str, status: AttemptStatus, now: int, after: Cursor | None, page_size: int
    ) -> Page[DueAttemptRow]:
        return self._page(
            DueAttemptRow,
            tenant_id,
            "read_due_attempts",
            ATTEMPT_ORDER,
            status=status,
            now=now,
            after=after,
            page_size=page_size,
        )
