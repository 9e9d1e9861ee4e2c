-- Repair: take away the rows of work orders that differ from the ledger, to write them anew.
delete from os_core.work_orders_current as row
using unnest(%b::text[], %b::text[]) as differing (tenant_id, work_order_id)
where row.tenant_id = differing.tenant_id and row.work_order_id = differing.work_order_id
