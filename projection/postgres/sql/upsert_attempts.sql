-- Write the step attempts that a batch changed, one row per attempt.
insert into os_core.work_order_step_attempts as row (
    /* names AttemptRow */
    tenant_id, work_order_id, step_id, attempt_index, status, timeout_ms, max_retries, retry_backoff_ms,
    next_retry_at, started_at, finished_at, reason_code, idempotency_key, due_at
    /* end */
)
select *
from jsonb_to_recordset(%b::jsonb) as batch (
    /* record AttemptRow */
    tenant_id text, work_order_id text, step_id text, attempt_index bigint, status text, timeout_ms bigint,
    max_retries bigint, retry_backoff_ms bigint, next_retry_at bigint, started_at bigint, finished_at bigint,
    reason_code bigint, idempotency_key text, due_at bigint
    /* end */
)
on conflict (tenant_id, work_order_id, step_id, attempt_index) do update set
    /* upsert AttemptRow */
    status = excluded.status, timeout_ms = excluded.timeout_ms, max_retries = excluded.max_retries,
    retry_backoff_ms = excluded.retry_backoff_ms, next_retry_at = excluded.next_retry_at,
    started_at = excluded.started_at, finished_at = excluded.finished_at, reason_code = excluded.reason_code,
    idempotency_key = excluded.idempotency_key, due_at = excluded.due_at
    /* end */
