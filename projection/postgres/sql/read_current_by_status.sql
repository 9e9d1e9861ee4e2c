-- A page of the current records of a tenant in one status, by work_order_id. A range of pairs, as in read_ledger_of_work_order.sql.
select
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
where
    row.tenant_id = %b and row.work_order_status <= %b
    and (row.work_order_status, row.work_order_id) > (%b, %b)
order by row.work_order_status, row.work_order_id
limit %b
