-- The outcomes of the records asked for that were not accepted.
select
    row.event_id, row.reason_code, row.field, row.sentence, row.first_event_id, row.payload_differs
from unnest(%b::text[], %b::bigint[]) as asked (tenant_id, event_id)
inner join os_core.work_order_outcomes as row using (tenant_id, event_id)
