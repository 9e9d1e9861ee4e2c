-- Repair: delete the rows of work orders that differ from the ledger, so that they can be written again.
delete from os_core.work_order_step_attempts as row
using jsonb_to_recordset(%b::jsonb) as differing (/* record WorkOrderName */ tenant_id text, work_order_id text /* end */)
where row.tenant_id = differing.tenant_id and row.work_order_id = differing.work_order_id
