-- A page of the tenants that have something due at a time, after a tenant, with counts; for the scheduler's role.
select tenant_id, retries, timed_out_steps, expired_leases, expired_approvals
from os_core.due_tenants(%b, %b, %b)
