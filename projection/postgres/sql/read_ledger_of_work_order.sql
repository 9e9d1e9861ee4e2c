-- A page of the ledger events of a work order, in id order. The work order is in the order, and its rows are a range of pairs, since
-- the index of the events of a work order alone is in that order. Asked for by equality, it is left out of the order, and statistics of
-- a time when one large work order had most rows lead to the index of ids: through the events of all others.
select
    /* select LedgerRow */
    row.tenant_id, row.work_order_event_id, row.schema_version, row.created_at, row.work_order_id,
    row.correlation_id::text, row.turn_id, row.event_type, row.status_before, row.work_order_status,
    row.reason_code, row.expected_last_event_id, row.step_id, row.step_input_hash, row.lease_owner_id,
    row.lease_token_hash, row.lease_expires_at, row.idempotency_key, row.payload
    /* end */
from os_core.work_order_ledger as row
where
    row.tenant_id = %b
    and (row.work_order_id, row.work_order_event_id) <= (%b, %b)
    and (row.work_order_id, row.work_order_event_id) > (%b, %b)
order by row.work_order_id, row.work_order_event_id
limit %b
