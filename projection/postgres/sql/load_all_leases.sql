-- The leases of the work orders asked for.
select
    /* select LeaseRow */
    row.tenant_id, row.work_order_id, row.granted_event_id, row.lease_state, row.lease_owner_id,
    row.lease_token_hash, row.acquired_at, row.renewed_at, row.lease_expires_at, row.released_at, row.due_at
    /* end */
from jsonb_to_recordset(%b::jsonb) as asked (/* record WorkOrderName */ tenant_id text, work_order_id text /* end */)
cross join lateral (
    select *
    from os_core.work_order_leases as candidate
    where candidate.tenant_id = asked.tenant_id and candidate.work_order_id = asked.work_order_id
    offset 0
) as row
