-- A page of the records of a tenant that were refused, newest first.
select tenant_id, event_id, work_order_id, outcome, reason_code, field, sentence, first_event_id, payload_differs
from os_core.work_order_outcomes
where tenant_id = %b and outcome = 'REFUSED' and event_id < %b
order by event_id desc
limit %b
