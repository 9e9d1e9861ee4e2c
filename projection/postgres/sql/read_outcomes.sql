-- What became of records of one tenant: those accepted, and the outcome rows of those that were not. Each is asked for as the first
-- from its id on: only the right index is in that order, and a plan made for small tables would else read the whole tenant.
with asked as (select %b::text as tenant_id, unnest(%b::bigint[]) as event_id)
select row.tenant_id, row.work_order_event_id, null, null, null, null, null, null
from asked
cross join lateral (
    select ledger.tenant_id, ledger.work_order_event_id
    from os_core.work_order_ledger as ledger
    where ledger.tenant_id = asked.tenant_id and ledger.work_order_event_id >= asked.event_id
    order by ledger.work_order_event_id
    limit 1
) as row
where row.work_order_event_id = asked.event_id
union all
select
    row.tenant_id, row.event_id, row.outcome, row.reason_code, row.field, row.sentence, row.first_event_id,
    row.payload_differs
from asked
cross join lateral (
    select *
    from os_core.work_order_outcomes as outcome
    where outcome.tenant_id = asked.tenant_id and outcome.event_id >= asked.event_id
    order by outcome.event_id
    limit 1
) as row
where row.event_id = asked.event_id
