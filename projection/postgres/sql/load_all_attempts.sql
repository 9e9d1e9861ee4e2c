-- The step attempts of the work orders asked for.
select
    /* select AttemptRow */
    row.tenant_id, row.work_order_id, row.step_id, row.attempt_index, row.status, row.timeout_ms,
    row.max_retries, row.retry_backoff_ms, row.next_retry_at, row.started_at, row.finished_at,
    row.reason_code, row.idempotency_key, row.due_at
    /* end */
from jsonb_to_recordset(%b::jsonb) as asked (/* record WorkOrderName */ tenant_id text, work_order_id text /* end */)
cross join lateral (
    select *
    from os_core.work_order_step_attempts as candidate
    where candidate.tenant_id = asked.tenant_id and candidate.work_order_id = asked.work_order_id
    offset 0
) as row
