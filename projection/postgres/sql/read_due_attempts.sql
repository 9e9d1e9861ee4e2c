-- A page of the attempts of a tenant that are due at a time: retries (SCHEDULED) or timeouts (RUNNING), longest due first. The last
-- failure of their work orders is looked up for the rows of the page alone.
select
    (
        select current.last_failure_reason_code
        from os_core.work_orders_current as current
        where current.tenant_id = row.tenant_id and current.work_order_id = row.work_order_id
    ) as last_failure_reason_code,
    /* select AttemptRow */
    row.tenant_id, row.work_order_id, row.step_id, row.attempt_index, row.status, row.timeout_ms,
    row.max_retries, row.retry_backoff_ms, row.next_retry_at, row.started_at, row.finished_at,
    row.reason_code, row.idempotency_key, row.due_at
    /* end */
from os_core.work_order_step_attempts as row
where
    row.tenant_id = %b and row.status = %b and row.due_at <= %b
    and (row.due_at, row.work_order_id, row.step_id, row.attempt_index) > (%b, %b, %b, %b)
order by row.due_at, row.work_order_id, row.step_id, row.attempt_index
limit %b
