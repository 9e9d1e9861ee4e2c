-- Write the leases that a batch changed, oldest grant first, so that one ends before the next is ACTIVE.
insert into os_core.work_order_leases as row (
    tenant_id, work_order_id, granted_event_id, lease_state, lease_owner_id, lease_token_hash, acquired_at,
    expires_at, ended_at
)
select
    batch.tenant_id, batch.work_order_id, batch.granted_event_id, batch.lease_state, batch.lease_owner_id,
    batch.lease_token_hash, batch.acquired_at, batch.expires_at, batch.ended_at
from
    unnest(
        %b::text[], %b::text[], %b::bigint[], %b::text[], %b::text[], %b::text[], %b::bigint[], %b::bigint[],
        %b::bigint[]
    ) as batch (
        tenant_id, work_order_id, granted_event_id, lease_state, lease_owner_id, lease_token_hash,
        acquired_at, expires_at, ended_at
    )
on conflict (tenant_id, work_order_id, granted_event_id) do update set
    lease_state = excluded.lease_state, lease_owner_id = excluded.lease_owner_id,
    lease_token_hash = excluded.lease_token_hash, acquired_at = excluded.acquired_at,
    expires_at = excluded.expires_at, ended_at = excluded.ended_at
