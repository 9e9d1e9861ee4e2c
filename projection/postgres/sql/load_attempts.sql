-- The attempts asked for by key, whatever their status.
select
    /* select AttemptRow */
    row.tenant_id, row.work_order_id, row.step_id, row.attempt_index, row.status, row.timeout_ms,
    row.max_retries, row.retry_backoff_ms, row.next_retry_at, row.started_at, row.finished_at,
    row.reason_code, row.idempotency_key, row.due_at
    /* end */
from jsonb_to_recordset(%b::jsonb) as asked (/* record AttemptName */ tenant_id text, work_order_id text, step_id text, attempt_index bigint /* end */)
cross join lateral (
    select *
    from os_core.work_order_step_attempts as candidate
    where candidate.tenant_id = asked.tenant_id and candidate.work_order_id = asked.work_order_id
        and candidate.step_id = asked.step_id and candidate.attempt_index = asked.attempt_index
    offset 0
) as row
