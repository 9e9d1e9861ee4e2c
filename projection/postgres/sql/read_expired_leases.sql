-- A page of the leases of a tenant that are ACTIVE but expired at a time, of open work orders, longest expired first.
select
    /* select LeaseRow */
    row.tenant_id, row.work_order_id, row.granted_event_id, row.lease_state, row.lease_owner_id,
    row.lease_token_hash, row.acquired_at, row.renewed_at, row.lease_expires_at, row.released_at, row.due_at
    /* end */
from os_core.work_order_leases as row
where row.tenant_id = %b and row.due_at <= %b and (row.due_at, row.work_order_id) > (%b, %b)
order by row.due_at, row.work_order_id
limit %b
