-- Append the accepted events of a batch.
insert into os_core.work_order_ledger as row (
    /* names LedgerRow */
    tenant_id, work_order_event_id, schema_version, created_at, work_order_id, correlation_id, turn_id,
    event_type, status_before, work_order_status, reason_code, expected_last_event_id, step_id,
    step_input_hash, lease_owner_id, lease_token_hash, lease_expires_at, idempotency_key, payload
    /* end */
)
select *
from jsonb_to_recordset(%b::jsonb) as batch (
    /* record LedgerRow */
    tenant_id text, work_order_event_id bigint, schema_version integer, created_at bigint, work_order_id text,
    correlation_id numeric, turn_id bigint, event_type text, status_before text, work_order_status text,
    reason_code bigint, expected_last_event_id bigint, step_id text, step_input_hash text,
    lease_owner_id text, lease_token_hash text, lease_expires_at bigint, idempotency_key text, payload jsonb
    /* end */
)
