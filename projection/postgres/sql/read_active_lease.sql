-- The lease of a work order that is ACTIVE and unexpired at a time.
select
    /* select LeaseRow */
    row.tenant_id, row.work_order_id, row.granted_event_id, row.lease_state, row.lease_owner_id,
    row.lease_token_hash, row.acquired_at, row.renewed_at, row.lease_expires_at, row.released_at, row.due_at
    /* end */
from os_core.work_order_leases as row
where row.tenant_id = %b and row.work_order_id = %b and row.lease_state = 'ACTIVE' and row.lease_expires_at > %b
