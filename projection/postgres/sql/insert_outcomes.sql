-- Append the outcomes of the records of a batch that were not accepted.
insert into os_core.work_order_outcomes as row (
    /* names OutcomeRow */
    tenant_id, event_id, work_order_id, event_type, correlation_id, turn_id, idempotency_key, created_at,
    outcome, reason_code, field, sentence, first_event_id, request_differs
    /* end */
)
select *
from jsonb_to_recordset(%b::jsonb) as batch (
    /* record OutcomeRow */
    tenant_id text, event_id bigint, work_order_id text, event_type text, correlation_id numeric,
    turn_id bigint, idempotency_key text, created_at bigint, outcome text, reason_code text, field text,
    sentence text, first_event_id bigint, request_differs boolean
    /* end */
)
