-- The ACTIVE leases of the work orders asked for: the last granted, if any is. Asked for by state, a plan that was made for few
-- leases looks through all that are ACTIVE, for each batch.
select
    /* select LeaseRow */
    row.tenant_id, row.work_order_id, row.granted_event_id, row.lease_state, row.lease_owner_id,
    row.lease_token_hash, row.acquired_at, row.renewed_at, row.lease_expires_at, row.released_at, row.due_at
    /* end */
from jsonb_to_recordset(%b::jsonb) as asked (/* record WorkOrderName */ tenant_id text, work_order_id text /* end */)
cross join lateral (
    select *
    from os_core.work_order_leases as lease
    where lease.tenant_id = asked.tenant_id and lease.work_order_id = asked.work_order_id
    order by lease.granted_event_id desc
    limit 1
) as row
where row.lease_state = 'ACTIVE'
