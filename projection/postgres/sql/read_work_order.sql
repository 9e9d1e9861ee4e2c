-- The current record of one work order with its attempts and its last lease, all as of one moment, since it is one statement.
select
    (
        select coalesce(jsonb_agg(to_jsonb(named) order by named.step_id, named.attempt_index), '[]')
        from (
            select
                /* names AttemptRow */
                tenant_id, work_order_id, step_id, attempt_index, status, timeout_ms, max_retries,
                retry_backoff_ms, next_retry_at, started_at, finished_at, reason_code, idempotency_key, due_at
                /* end */
            from os_core.work_order_step_attempts as attempt
            where attempt.tenant_id = row.tenant_id and attempt.work_order_id = row.work_order_id
        ) as named
    ) as attempts,
    (
        select to_jsonb(named)
        from (
            select
                /* names LeaseRow */
                tenant_id, work_order_id, granted_event_id, lease_state, lease_owner_id, lease_token_hash,
                acquired_at, renewed_at, lease_expires_at, released_at, due_at
                /* end */
            from os_core.work_order_leases as lease
            where lease.tenant_id = row.tenant_id and lease.work_order_id = row.work_order_id
            order by lease.granted_event_id desc
            limit 1
        ) as named
    ) as last_lease,
    /* select CurrentRow */
    row.tenant_id, row.work_order_id, row.correlation_id::text, row.turn_id, row.work_order_status,
    row.last_event_id, row.last_reason_code, row.last_updated_at, row.step_id, row.step_input_hash,
    row.lease_owner_id, row.lease_token_hash, row.lease_expires_at, row.requester_user_id,
    row.requester_speaker_id, row.device_id, row.session_id, row.process_id, row.blueprint_version,
    row.intent_type, row.fields_json, row.missing_fields_json, row.asked_fields_json,
    row.resolved_fields_json, row.prompt_dedupe_keys_json, row.confirmation_state,
    row.external_approval_pending, row.external_approval_request_id, row.external_approval_target_user_id,
    row.external_approval_expires_at, row.external_approval_decision, row.active_step_id,
    row.active_step_attempt, row.timeout_ms_active, row.max_retries_active, row.retry_backoff_ms_active,
    row.next_retry_at, row.last_failure_reason_code, row.created_at, row.closed_at
    /* end */
from os_core.work_orders_current as row
where row.tenant_id = %b and row.work_order_id = %b
