-- The events that idempotency keys are bound to already.
select
    row.tenant_id, row.work_order_id, row.idempotency_key, row.work_order_event_id, row.event_type,
    row.payload
from json_to_recordset(%b::json) as asked (/* record IdempotencyKey */ tenant_id text, work_order_id text, idempotency_key text /* end */)
inner join os_core.work_order_ledger as row using (tenant_id, work_order_id, idempotency_key)
