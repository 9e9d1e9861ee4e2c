-- Write the current records of a batch, one row per work order; a row that is not older is left alone and not counted.
insert into os_core.work_orders_current as row (
    tenant_id, work_order_id, correlation_id, turn_id, work_order_status, last_event_id, last_reason_code,
    last_updated_at, step_id, step_input_hash, lease_owner_id, lease_token_hash, lease_expires_at,
    requester_user_id, requester_speaker_id, device_id, session_id, process_id, blueprint_version,
    intent_type, fields_json, missing_fields_json, asked_fields_json, resolved_fields_json,
    prompt_dedupe_keys_json, confirmation_state, external_approval_pending, external_approval_request_id,
    external_approval_target_user_id, external_approval_expires_at, active_step_id, active_step_attempt,
    timeout_ms_active, max_retries_active, retry_backoff_ms_active, next_retry_at, last_failure_reason_code,
    created_at, closed_at
)
select
    batch.tenant_id, batch.work_order_id, batch.correlation_id::numeric, batch.turn_id,
    batch.work_order_status, batch.last_event_id, batch.last_reason_code, batch.last_updated_at,
    batch.step_id, batch.step_input_hash, batch.lease_owner_id, batch.lease_token_hash,
    batch.lease_expires_at, batch.requester_user_id, batch.requester_speaker_id, batch.device_id,
    batch.session_id, batch.process_id, batch.blueprint_version, batch.intent_type, batch.fields_json::jsonb,
    batch.missing_fields_json::jsonb, batch.asked_fields_json::jsonb, batch.resolved_fields_json::jsonb,
    batch.prompt_dedupe_keys_json::jsonb, batch.confirmation_state, batch.external_approval_pending,
    batch.external_approval_request_id, batch.external_approval_target_user_id,
    batch.external_approval_expires_at, batch.active_step_id, batch.active_step_attempt,
    batch.timeout_ms_active, batch.max_retries_active, batch.retry_backoff_ms_active, batch.next_retry_at,
    batch.last_failure_reason_code, batch.created_at, batch.closed_at
from
    unnest(
        %b::text[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::bigint[], %b::bigint[],
        %b::bigint[], %b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[], %b::text[], %b::text[],
        %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[],
        %b::text[], %b::text[], %b::text[], %b::boolean[], %b::text[], %b::text[], %b::bigint[], %b::text[],
        %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[],
        %b::bigint[]
    ) as batch (
        tenant_id, work_order_id, correlation_id, turn_id, work_order_status, last_event_id,
        last_reason_code, last_updated_at, step_id, step_input_hash, lease_owner_id, lease_token_hash,
        lease_expires_at, requester_user_id, requester_speaker_id, device_id, session_id, process_id,
        blueprint_version, intent_type, fields_json, missing_fields_json, asked_fields_json,
        resolved_fields_json, prompt_dedupe_keys_json, confirmation_state, external_approval_pending,
        external_approval_request_id, external_approval_target_user_id, external_approval_expires_at,
        active_step_id, active_step_attempt, timeout_ms_active, max_retries_active, retry_backoff_ms_active,
        next_retry_at, last_failure_reason_code, created_at, closed_at
    )
on conflict (tenant_id, work_order_id) do update set
    turn_id = excluded.turn_id, work_order_status = excluded.work_order_status,
    last_event_id = excluded.last_event_id, last_reason_code = excluded.last_reason_code,
    last_updated_at = excluded.last_updated_at, step_id = excluded.step_id,
    step_input_hash = excluded.step_input_hash, lease_owner_id = excluded.lease_owner_id,
    lease_token_hash = excluded.lease_token_hash, lease_expires_at = excluded.lease_expires_at,
    requester_user_id = excluded.requester_user_id, requester_speaker_id = excluded.requester_speaker_id,
    device_id = excluded.device_id, session_id = excluded.session_id, process_id = excluded.process_id,
    blueprint_version = excluded.blueprint_version, intent_type = excluded.intent_type,
    fields_json = excluded.fields_json, missing_fields_json = excluded.missing_fields_json,
    asked_fields_json = excluded.asked_fields_json, resolved_fields_json = excluded.resolved_fields_json,
    prompt_dedupe_keys_json = excluded.prompt_dedupe_keys_json,
    confirmation_state = excluded.confirmation_state,
    external_approval_pending = excluded.external_approval_pending,
    external_approval_request_id = excluded.external_approval_request_id,
    external_approval_target_user_id = excluded.external_approval_target_user_id,
    external_approval_expires_at = excluded.external_approval_expires_at,
    active_step_id = excluded.active_step_id, active_step_attempt = excluded.active_step_attempt,
    timeout_ms_active = excluded.timeout_ms_active, max_retries_active = excluded.max_retries_active,
    retry_backoff_ms_active = excluded.retry_backoff_ms_active, next_retry_at = excluded.next_retry_at,
    last_failure_reason_code = excluded.last_failure_reason_code, closed_at = excluded.closed_at
where row.last_event_id < excluded.last_event_id
