-- What became of records of one tenant: those accepted, and the outcome rows of those that were not.
with asked as (select %b::text as tenant_id, unnest(%b::bigint[]) as event_id)
select row.work_order_event_id, null, null, null, null, null, null
from asked
inner join os_core.work_order_ledger as row
    on row.tenant_id = asked.tenant_id and row.work_order_event_id = asked.event_id
union all
select
    row.event_id, row.outcome, row.reason_code, row.field, row.sentence, row.first_event_id, row.payload_differs
from asked
inner join os_core.work_order_outcomes as row
    on row.tenant_id = asked.tenant_id and row.event_id = asked.event_id
