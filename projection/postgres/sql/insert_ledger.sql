-- Append the accepted events of a batch.
insert into os_core.work_order_ledger (
    tenant_id, work_order_event_id, schema_version, created_at, work_order_id, correlation_id, turn_id,
    event_type, work_order_status, reason_code, expected_last_event_id, step_id, step_input_hash,
    lease_owner_id, lease_token_hash, lease_expires_at, idempotency_key, payload
)
select
    batch.tenant_id, batch.work_order_event_id, batch.schema_version, batch.created_at, batch.work_order_id,
    batch.correlation_id::numeric, batch.turn_id, batch.event_type, batch.work_order_status,
    batch.reason_code, batch.expected_last_event_id, batch.step_id, batch.step_input_hash,
    batch.lease_owner_id, batch.lease_token_hash, batch.lease_expires_at, batch.idempotency_key,
    batch.payload::jsonb
from
    unnest(
        %b::text[], %b::bigint[], %b::bigint[], %b::bigint[], %b::text[], %b::text[], %b::bigint[],
        %b::text[], %b::text[], %b::bigint[], %b::bigint[], %b::text[], %b::text[], %b::text[], %b::text[],
        %b::bigint[], %b::text[], %b::text[]
    ) as batch (
        tenant_id, work_order_event_id, schema_version, created_at, work_order_id, correlation_id, turn_id,
        event_type, work_order_status, reason_code, expected_last_event_id, step_id, step_input_hash,
        lease_owner_id, lease_token_hash, lease_expires_at, idempotency_key, payload
    )
