-- Which of the records asked for were accepted.
select
    row.work_order_event_id
from unnest(%b::text[], %b::bigint[]) as asked (tenant_id, work_order_event_id)
inner join os_core.work_order_ledger as row using (tenant_id, work_order_event_id)
