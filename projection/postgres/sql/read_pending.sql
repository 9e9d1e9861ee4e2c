-- The open records of a requester that could be in a pending list, and the position that the answer is true at.
select
    row.tenant_id, lane.applied, lane.epoch, row.work_order_id, row.correlation_id::text, row.work_order_status,
    row.intent_type, row.process_id, row.missing_fields_json, row.external_approval_pending, row.last_event_id,
    row.last_updated_at
from os_core.lanes as lane
left join os_core.work_orders_current as row
    on row.tenant_id = %b and row.requester_user_id = %b and row.closed_at is null
    and row.work_order_status in ('DRAFT', 'CLARIFY', 'CONFIRM')
where lane.lane = %b
