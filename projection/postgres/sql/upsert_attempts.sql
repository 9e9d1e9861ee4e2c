-- Write the step attempts that a batch changed, one row per attempt.
insert into os_core.work_order_step_attempts as row (
    tenant_id, work_order_id, step_id, attempt_index, status, timeout_ms, max_retries, retry_backoff_ms,
    next_retry_at, started_at, finished_at, reason_code, idempotency_key
)
select
    batch.tenant_id, batch.work_order_id, batch.step_id, batch.attempt_index, batch.status, batch.timeout_ms,
    batch.max_retries, batch.retry_backoff_ms, batch.next_retry_at, batch.started_at, batch.finished_at,
    batch.reason_code, batch.idempotency_key
from
    unnest(
        %b::text[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::bigint[], %b::bigint[],
        %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::text[]
    ) as batch (
        tenant_id, work_order_id, step_id, attempt_index, status, timeout_ms, max_retries, retry_backoff_ms,
        next_retry_at, started_at, finished_at, reason_code, idempotency_key
    )
on conflict (tenant_id, work_order_id, step_id, attempt_index) do update set
    status = excluded.status, timeout_ms = excluded.timeout_ms, max_retries = excluded.max_retries,
    retry_backoff_ms = excluded.retry_backoff_ms, next_retry_at = excluded.next_retry_at,
    started_at = excluded.started_at, finished_at = excluded.finished_at, reason_code = excluded.reason_code,
    idempotency_key = excluded.idempotency_key
