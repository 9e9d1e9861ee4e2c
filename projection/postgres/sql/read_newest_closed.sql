-- A page of the work orders of a tenant that were closed before an event, by the events that closed them, the newest first, as they are now.
select
    closing.work_order_event_id as closing_event_id,
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
from (
    select ledger.tenant_id, ledger.work_order_id, ledger.work_order_event_id
    from os_core.work_order_ledger as ledger
    where
        ledger.tenant_id = %b and ledger.work_order_event_id < %b
        and ledger.work_order_status in ('DONE', 'REFUSED', 'FAILED', 'CANCELED')
        and (ledger.status_before is null or ledger.status_before in ('DRAFT', 'CLARIFY', 'CONFIRM', 'EXECUTING'))
    order by ledger.work_order_event_id desc
    limit %b
) as closing
cross join lateral (
    select *
    from os_core.work_orders_current as current
    where current.tenant_id = closing.tenant_id and current.work_order_id = closing.work_order_id
    limit 1
) as row
order by closing.work_order_event_id desc
