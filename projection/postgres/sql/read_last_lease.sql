-- The lease of a work order that was granted last, whatever became of it.
select
    /* select LeaseRow */
    row.tenant_id, row.work_order_id, row.granted_event_id, row.lease_state, row.lease_owner_id,
    row.lease_token_hash, row.acquired_at, row.renewed_at, row.lease_expires_at, row.released_at, row.due_at
    /* end */
from os_core.work_order_leases as row
where row.tenant_id = %b and row.work_order_id = %b
order by row.granted_event_id desc
limit 1
