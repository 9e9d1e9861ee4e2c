-- The ledger events of the work orders asked for, in id order. A range of pairs, as in read_ledger_of_work_order.sql.
select
    /* select LedgerRow */
    row.tenant_id, row.work_order_event_id, row.schema_version, row.created_at, row.work_order_id,
    row.correlation_id::text, row.turn_id, row.event_type, row.status_before, row.work_order_status,
    row.reason_code, row.expected_last_event_id, row.step_id, row.step_input_hash, row.lease_owner_id,
    row.lease_token_hash, row.lease_expires_at, row.idempotency_key, row.payload
    /* end */
from jsonb_to_recordset(%b::jsonb) as asked (/* record WorkOrderName */ tenant_id text, work_order_id text /* end */)
cross join lateral (
    select *
    from os_core.work_order_ledger as candidate
    where
        candidate.tenant_id = asked.tenant_id and candidate.work_order_id <= asked.work_order_id
        and (candidate.work_order_id, candidate.work_order_event_id) > (asked.work_order_id, 0)
    order by candidate.work_order_id, candidate.work_order_event_id
) as row
order by row.work_order_event_id
