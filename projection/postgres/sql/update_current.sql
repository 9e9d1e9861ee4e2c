-- Write the current records of a batch whose fields, prompts and origin are as they were; a row that is not older is not counted.
update os_core.work_orders_current as row
set
    /* update CurrentRow */
    turn_id = batch.turn_id, work_order_status = batch.work_order_status, last_event_id = batch.last_event_id,
    last_reason_code = batch.last_reason_code, last_updated_at = batch.last_updated_at,
    step_id = batch.step_id, step_input_hash = batch.step_input_hash, lease_owner_id = batch.lease_owner_id,
    lease_token_hash = batch.lease_token_hash, lease_expires_at = batch.lease_expires_at,
    confirmation_state = batch.confirmation_state,
    external_approval_pending = batch.external_approval_pending,
    external_approval_request_id = batch.external_approval_request_id,
    external_approval_target_user_id = batch.external_approval_target_user_id,
    external_approval_expires_at = batch.external_approval_expires_at,
    external_approval_decision = batch.external_approval_decision, active_step_id = batch.active_step_id,
    active_step_attempt = batch.active_step_attempt, timeout_ms_active = batch.timeout_ms_active,
    max_retries_active = batch.max_retries_active, retry_backoff_ms_active = batch.retry_backoff_ms_active,
    next_retry_at = batch.next_retry_at, last_failure_reason_code = batch.last_failure_reason_code,
    closed_at = batch.closed_at
    /* end */
from jsonb_to_recordset(%b::jsonb) as batch (
    /* moved CurrentRow */
    tenant_id text, work_order_id text, turn_id bigint, work_order_status text, last_event_id bigint,
    last_reason_code bigint, last_updated_at bigint, step_id text, step_input_hash text, lease_owner_id text,
    lease_token_hash text, lease_expires_at bigint, confirmation_state text,
    external_approval_pending boolean, external_approval_request_id text,
    external_approval_target_user_id text, external_approval_expires_at bigint,
    external_approval_decision text, active_step_id text, active_step_attempt bigint,
    timeout_ms_active bigint, max_retries_active bigint, retry_backoff_ms_active bigint, next_retry_at bigint,
    last_failure_reason_code bigint, closed_at bigint
    /* end */
)
where
    row.tenant_id = batch.tenant_id and row.work_order_id = batch.work_order_id
    and row.last_event_id < batch.last_event_id
