-- Write the leases that a batch changed, oldest grant first, so that one ends before the next is ACTIVE.
insert into os_core.work_order_leases as row (
    /* names LeaseRow */
    tenant_id, work_order_id, granted_event_id, lease_state, lease_owner_id, lease_token_hash, acquired_at,
    renewed_at, lease_expires_at, released_at, due_at
    /* end */
)
select *
from jsonb_to_recordset(%b::jsonb) as batch (
    /* record LeaseRow */
    tenant_id text, work_order_id text, granted_event_id bigint, lease_state text, lease_owner_id text,
    lease_token_hash text, acquired_at bigint, renewed_at bigint, lease_expires_at bigint, released_at bigint,
    due_at bigint
    /* end */
)
on conflict (tenant_id, work_order_id, granted_event_id) do update set
    /* upsert LeaseRow */
    lease_state = excluded.lease_state, lease_owner_id = excluded.lease_owner_id,
    lease_token_hash = excluded.lease_token_hash, acquired_at = excluded.acquired_at,
    renewed_at = excluded.renewed_at, lease_expires_at = excluded.lease_expires_at,
    released_at = excluded.released_at, due_at = excluded.due_at
    /* end */
