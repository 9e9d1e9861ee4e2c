-- A page of the records of a tenant that were refused, newest first.
select
    /* select OutcomeRow */
    row.tenant_id, row.event_id, row.work_order_id, row.event_type, row.correlation_id::text, row.turn_id,
    row.idempotency_key, row.created_at, row.outcome, row.reason_code, row.field, row.sentence,
    row.first_event_id, row.request_differs
    /* end */
from os_core.work_order_outcomes as row
where row.tenant_id = %b and row.outcome = 'REFUSED' and row.event_id < %b
order by row.event_id desc
limit %b
