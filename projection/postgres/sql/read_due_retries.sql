-- The attempts of a tenant whose retry is due at a time, longest due first.
select
    /* select AttemptRow */
    row.tenant_id, row.work_order_id, row.step_id, row.attempt_index, row.status, row.timeout_ms,
    row.max_retries, row.retry_backoff_ms, row.next_retry_at, row.started_at, row.finished_at,
    row.reason_code, row.idempotency_key
    /* end */
from os_core.work_order_step_attempts as row
where row.tenant_id = %b and row.status = 'SCHEDULED' and row.next_retry_at <= %b
order by row.next_retry_at, row.work_order_id, row.step_id, row.attempt_index
limit %b
