"""What is due: retries, timeouts, expired leases, approvals. Of open work orders only; a closed one is history."""

from typing import Final, NamedTuple

from core_tables.projection.postgres.read_types import (
    CurrentRecord,
    DueRetry,
    GrantedLease,
    TimedOutStep,
    current_record,
    due_retry,
    granted_lease,
    timed_out_step,
)
from core_tables.projection.postgres.row_types import CurrentRow, DueAttemptRow, LeaseRow
from core_tables.projection.postgres.tenant_reads import (
    MAX_PAGE,
    Cursor,
    Order,
    Page,
    TenantReads,
    check_page,
    checked_cursor,
    checked_values,
    page_of,
)
from core_tables.schemas.vocabulary import AttemptStatus

_BY_ATTEMPT: Final[Order] = {"due_at": 0, "work_order_id": "", "step_id": "", "attempt_index": 0}
_BY_LEASE: Final[Order] = {"due_at": 0, "work_order_id": ""}
_BY_EXPIRY: Final[Order] = {"external_approval_expires_at": 0, "work_order_id": ""}
_BY_TENANT: Final[Order] = {"tenant_id": ""}


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
        self,
        tenant_id: str,
        now: int,
        *,
        after: Cursor | None = None,
        page_size: int = MAX_PAGE,
        at_least: int = 0,
    ) -> Page[DueRetry]:
        """A page of the attempts whose retry is due at `now` (ns), longest due first."""
        return self._due_attempts(tenant_id, "SCHEDULED", now, after, page_size, at_least).made(due_retry)

    def timed_out_steps(
        self,
        tenant_id: str,
        now: int,
        *,
        after: Cursor | None = None,
        page_size: int = MAX_PAGE,
        at_least: int = 0,
    ) -> Page[TimedOutStep]:
        """A page of the attempts that run longer than their timeout at `now` (ns), longest timed out first."""
        return self._due_attempts(tenant_id, "RUNNING", now, after, page_size, at_least).made(timed_out_step)

    def expired_leases(
        self,
        tenant_id: str,
        now: int,
        *,
        after: Cursor | None = None,
        page_size: int = MAX_PAGE,
        at_least: int = 0,
    ) -> Page[GrantedLease]:
        """A page of the leases that are expired at `now` (ns) though nobody was granted another, longest expired first."""
        page = self._page(
            LeaseRow,
            tenant_id,
            "read_expired_leases",
            _BY_LEASE,
            after=after,
            page_size=page_size,
            at_least=at_least,
            now=now,
        )
        return page.made(granted_lease)

    def expired_approvals(
        self,
        tenant_id: str,
        now: int,
        *,
        after: Cursor | None = None,
        page_size: int = MAX_PAGE,
        at_least: int = 0,
    ) -> Page[CurrentRecord]:
        """A page of the work orders that wait for an approval that is expired at `now` (ns), longest expired first."""
        page = self._page(
            CurrentRow,
            tenant_id,
            "read_expired_approvals",
            _BY_EXPIRY,
            after=after,
            page_size=page_size,
            at_least=at_least,
            now=now,
        )
        return page.made(current_record)

    def awaited_approvals(
        self,
        tenant_id: str,
        target_user_id: str,
        *,
        after: Cursor | None = None,
        page_size: int = MAX_PAGE,
        at_least: int = 0,
    ) -> Page[CurrentRecord]:
        """A page of the work orders that wait for the approval of one user, the first to expire first; expired ones too."""
        page = self._page(
            CurrentRow,
            tenant_id,
            "read_awaited_approvals",
            _BY_EXPIRY,
            after=after,
            page_size=page_size,
            at_least=at_least,
            target_user_id=target_user_id,
        )
        return page.made(current_record)

    def due_tenants(self, now: int, *, after: Cursor | None = None, page_size: int = MAX_PAGE) -> Page[DueTenant]:
        """A page of the tenants that have something due at `now` (ns), by tenant_id.

        For a login with the role core_tables_scheduler; another gets SetupError. What is due, the reader's reads say.
        """
        check_page(page_size)
        start = checked_cursor(after, _BY_TENANT)
        checked_values(now=now, **start)
        rows: list[DueTenant] = []
        for pool in self._pools.every():
            with pool.transaction(self._deadline) as pipeline:
                answer = pipeline.fetch(DueTenant, "read_due_tenants", now, *start.values(), page_size + 1)
            rows += answer.rows
        return page_of(
            sorted(rows), _BY_TENANT, page_size, lambda cursor: self.due_tenants(now, after=cursor, page_size=page_size)
        )

    def _due_attempts(
        self, tenant_id: str, status: AttemptStatus, now: int, after: Cursor | None, page_size: int, at_least: int
    ) -> Page[DueAttemptRow]:
        return self._page(
            DueAttemptRow,
            tenant_id,
            "read_due_attempts",
            _BY_ATTEMPT,
            after=after,
            page_size=page_size,
            at_least=at_least,
            status=status,
            now=now,
        )
