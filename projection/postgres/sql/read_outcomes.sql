-- What became of records of one tenant: those accepted, and the outcome rows of those that were not. Each is asked for as the first
-- from its id on: only the right index is in that order, and a plan made for small tables would else read the whole tenant.
with asked as (
    select * from jsonb_to_recordset(%b::jsonb) as record (/* record RecordName */ tenant_id text, event_id bigint /* end */)
)
select
    true as accepted, row.tenant_id, row.work_order_event_id as event_id,
    /* nulls OutcomeRow */
    null as work_order_id, null as event_type, null as correlation_id, null as turn_id,
    null as idempotency_key, null as created_at, null as outcome, null as reason_code, null as field,
    null as sentence, null as first_event_id, null as request_differs
    /* end */
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
    false,
    /* select OutcomeRow */
    row.tenant_id, row.event_id, row.work_order_id, row.event_type, row.correlation_id::text, row.turn_id,
    row.idempotency_key, row.created_at, row.outcome, row.reason_code, row.field, row.sentence,
    row.first_event_id, row.request_differs
    /* end */
from asked
cross join lateral (
    select *
    from os_core.work_order_outcomes as outcome
    where outcome.tenant_id = asked.tenant_id and outcome.event_id >= asked.event_id
    order by outcome.event_id
    limit 1
) as row
where row.event_id = asked.event_id
