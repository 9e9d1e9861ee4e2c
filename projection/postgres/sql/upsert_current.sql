-- Write the current records of a batch, one row per work order; a row that is not older is left alone and not counted.
insert into os_core.work_orders_current as row (
    /* names CurrentRow */
    tenant_id, work_order_id, correlation_id, turn_id, work_order_status, last_event_id, last_reason_code,
    last_updated_at, step_id, step_input_hash, lease_owner_id, lease_token_hash, lease_expires_at,
    requester_user_id, requester_speaker_id, device_id, session_id, process_id, blueprint_version,
    intent_type, fields_json, missing_fields_json, asked_fields_json, resolved_fields_json,
    prompt_dedupe_keys_json, confirmation_state, external_approval_pending, external_approval_request_id,
    external_approval_target_user_id, external_approval_expires_at, external_approval_decision,
    active_step_id, active_step_attempt, timeout_ms_active, max_retries_active, retry_backoff_ms_active,
    next_retry_at, last_failure_reason_code, created_at, closed_at
    /* end */
)
select *
from jsonb_to_recordset(%b::jsonb) as batch (
    /* record CurrentRow */
    tenant_id text, work_order_id text, correlation_id numeric, turn_id bigint, work_order_status text,
    last_event_id bigint, last_reason_code bigint, last_updated_at bigint, step_id text, step_input_hash text,
    lease_owner_id text, lease_token_hash text, lease_expires_at bigint, requester_user_id text,
    requester_speaker_id text, device_id text, session_id text, process_id text, blueprint_version text,
    intent_type text, fields_json jsonb, missing_fields_json jsonb, asked_fields_json jsonb,
    resolved_fields_json jsonb, prompt_dedupe_keys_json jsonb, confirmation_state text,
    external_approval_pending boolean, external_approval_request_id text,
    external_approval_target_user_id text, external_approval_expires_at bigint,
    external_approval_decision text, active_step_id text, active_step_attempt bigint,
    timeout_ms_active bigint, max_retries_active bigint, retry_backoff_ms_active bigint, next_retry_at bigint,
    last_failure_reason_code bigint, created_at bigint, closed_at bigint
    /* end */
)
on conflict (tenant_id, work_order_id) do update set
    /* upsert CurrentRow */
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
    external_approval_decision = excluded.external_approval_decision,
    active_step_id = excluded.active_step_id, active_step_attempt = excluded.active_step_attempt,
    timeout_ms_active = excluded.timeout_ms_active, max_retries_active = excluded.max_retries_active,
    retry_backoff_ms_active = excluded.retry_backoff_ms_active, next_retry_at = excluded.next_retry_at,
    last_failure_reason_code = excluded.last_failure_reason_code, closed_at = excluded.closed_at
    /* end */
where row.last_event_id < excluded.last_event_id
