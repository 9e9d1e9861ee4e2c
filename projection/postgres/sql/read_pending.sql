-- The newest records of a requester in up to three statuses (others are empty texts) that were updated since a time, in the order of
-- the pending list, and the position that the answer is true at. Each status is a range of an index in that order, so no more rows of
-- it are read than asked for, however many there are.
with asked as (
    select
        %b as tenant_id, %b as requester_user_id, unnest(array[%b, %b, %b]) as work_order_status, %b as since,
        %b as most_of_a_status
)
select
    newest.tenant_id, lane.applied, lane.epoch, newest.work_order_id, newest.correlation_id::text, newest.work_order_status,
    newest.intent_type, newest.process_id, newest.missing_fields_json, newest.external_approval_pending, newest.last_event_id,
    newest.last_updated_at
from os_core.lanes as lane
left join lateral (
    select row.*
    from asked
    cross join lateral (
        select *
        from os_core.work_orders_current as current
        where
            current.tenant_id = asked.tenant_id and current.requester_user_id = asked.requester_user_id
            and current.work_order_status = asked.work_order_status
            and current.work_order_status in ('DRAFT', 'CLARIFY', 'CONFIRM')
            and current.pending_at >= asked.since
        order by current.pending_at desc, current.work_order_id
        limit asked.most_of_a_status
    ) as row
    order by row.pending_at desc, row.work_order_id
    limit %b
) as newest on true
where lane.lane = %b
