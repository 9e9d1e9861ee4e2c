-- A page of the ledger events of a work order, in id order.
select
    /* select LedgerRow */
    row.tenant_id, row.work_order_event_id, row.schema_version, row.created_at, row.work_order_id,
    row.correlation_id::text, row.turn_id, row.event_type, row.status_before, row.work_order_status,
    row.reason_code, row.expected_last_event_id, row.step_id, row.step_input_hash, row.lease_owner_id,
    row.lease_token_hash, row.lease_expires_at, row.idempotency_key, row.payload
    /* end */
from os_core.work_order_ledger as row
where row.tenant_id = %b and row.work_order_id = %b and row.work_order_event_id <= %b and row.work_order_event_id > %b
order by row.work_order_event_id
limit %b
