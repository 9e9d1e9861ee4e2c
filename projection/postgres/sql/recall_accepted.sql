-- Which of the records asked for were accepted, and the status before each.
select
    row.work_order_event_id, row.status_before
from jsonb_to_recordset(%b::jsonb) as asked (/* record RecordName */ tenant_id text, event_id bigint /* end */)
inner join os_core.work_order_ledger as row
    on row.tenant_id = asked.tenant_id and row.work_order_event_id = asked.event_id
