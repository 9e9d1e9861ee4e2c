-- The outcome rows of the records asked for.
select
    /* select OutcomeRow */
    row.tenant_id, row.event_id, row.work_order_id, row.event_type, row.correlation_id::text, row.turn_id,
    row.idempotency_key, row.created_at, row.outcome, row.reason_code, row.field, row.sentence,
    row.first_event_id, row.request_differs
    /* end */
from jsonb_to_recordset(%b::jsonb) as asked (/* record RecordName */ tenant_id text, event_id bigint /* end */)
inner join os_core.work_order_outcomes as row using (tenant_id, event_id)
