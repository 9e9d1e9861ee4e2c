-- Append the outcomes of the records of a batch that were not accepted.
insert into os_core.work_order_outcomes as row (
    /* names OutcomeRow */
    tenant_id, event_id, work_order_id, outcome, reason_code, field, sentence, first_event_id, payload_differs
    /* end */
)
select *
from json_to_recordset(%b::json) as batch (
    /* record OutcomeRow */
    tenant_id text, event_id bigint, work_order_id text, outcome text, reason_code text, field text,
    sentence text, first_event_id bigint, payload_differs boolean
    /* end */
)
