"""The reads of work orders: current records, step attempts, leases."""

from core_tables.projection.fold.work_order import Attempt, AttemptKey, Lease, WorkOrder
from core_tables.projection.postgres.from_rows import attempt_of_row, lease_of_row, state_of_row
from core_tables.projection.postgres.row_types import AttemptRow, CurrentRow, LeaseRow
from core_tables.projection.postgres.tenant_reads import TenantReads
from core_tables.schemas.reasons import ContractError, contract_failure
from core_tables.schemas.vocabulary import MAX_U128


class RecordReads(TenantReads):
    """The reads of work orders as they are now."""

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

    def attempts(self, tenant_id: str, work_order_id: str) -> dict[AttemptKey, Attempt]:
        """The step attempts of a work order, by step_id and attempt_index."""
        rows = self._tenant_rows(AttemptRow, tenant_id, "read_attempts", work_order_id=work_order_id)
        return dict(map(attempt_of_row, rows))

    def active_lease(self, tenant_id: str, work_order_id: str, now: int) -> Lease | None:
        """The lease of a work order that is active at `now` (ns)."""
        rows = self._tenant_rows(LeaseRow, tenant_id, "read_active_lease", work_order_id=work_order_id, now=now)
        return lease_of_row(rows[0]) if rows else None
