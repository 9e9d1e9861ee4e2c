-- The events that idempotency keys are bound to already.
select
    row.tenant_id, row.work_order_id, row.idempotency_key, row.work_order_event_id, row.event_type,
    row.payload
from unnest(%b::text[], %b::text[], %b::text[]) as asked (tenant_id, work_order_id, idempotency_key)
inner join os_core.work_order_ledger as row using (tenant_id, work_order_id, idempotency_key)
