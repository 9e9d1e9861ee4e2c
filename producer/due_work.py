"""Everything that is due, over all tenants."""

from collections.abc import Iterator

from core_tables.projection.postgres.read_types import CurrentRecord, DueRetry, GrantedLease, TimedOutStep
from core_tables.projection.postgres.reads import Reads

# A retry that is due, a step that runs too long, a lease that expired, a work order whose approval expired.
DueWork = DueRetry | TimedOutStep | GrantedLease | CurrentRecord


def everything_due(scheduler: Reads, reads: Reads, now: int) -> Iterator[DueWork]:
    """What is due at `now` (ns), tenant by tenant: the scheduler's login says which tenants, the reader's reads what."""
    for tenant in scheduler.due_tenants(now).all():
        for read in (reads.due_retries, reads.timed_out_steps, reads.expired_leases, reads.expired_approvals):
            yield from read(tenant.tenant_id, now).all()
