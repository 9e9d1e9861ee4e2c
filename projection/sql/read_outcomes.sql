-- What became of many records of one tenant in one lane: those accepted, and the outcome rows of those that were not.
select ledger.work_order_event_id, null, null, null, null, null, null
from unnest(%(event_ids)b::bigint[]) as asked (event_id)
inner join os_core.work_order_ledger as ledger
    on ledger.tenant_id = %(tenant_id)b and ledger.work_order_event_id = asked.event_id
union all
select outcome.event_id, outcome.outcome, outcome.reason_code, outcome.field, outcome.sentence, outcome.first_event_id,
    outcome.payload_differs
from unnest(%(event_ids)b::bigint[]) as asked (event_id)
inner join os_core.work_order_outcomes as outcome on outcome.tenant_id = %(tenant_id)b and outcome.event_id = asked.event_id
