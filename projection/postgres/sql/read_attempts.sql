-- A page of the step attempts of one work order.
select
    /* select AttemptRow */
    row.tenant_id, row.work_order_id, row.step_id, row.attempt_index, row.status, row.timeout_ms,
    row.max_retries, row.retry_backoff_ms, row.next_retry_at, row.started_at, row.finished_at,
    row.reason_code, row.idempotency_key, row.due_at
    /* end */
from os_core.work_order_step_attempts as row
where row.tenant_id = %b and row.work_order_id = %b and (row.step_id, row.attempt_index) > (%b, %b)
order by row.step_id, row.attempt_index
limit %b
