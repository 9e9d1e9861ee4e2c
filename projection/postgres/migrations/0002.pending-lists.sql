-- Pending lists of any size: each status of a requester's list is a range of an index, in the order of the list.
-- compatible: yes

set local role core_tables_owner;

-- When a pending record was updated last; null in any other status. An index of last_updated_at itself would have to be written with
-- each event of every work order, and all other indexes of the table with it.
alter table os_core.work_orders_current
    add column pending_at bigint generated always as (
        case when work_order_status in ('DRAFT', 'CLARIFY', 'CONFIRM') then last_updated_at end
    ) stored;

create index pending_work_orders
    on os_core.work_orders_current (
        tenant_id, requester_user_id, work_order_status, pending_at desc, work_order_id
    )
    where work_order_status in ('DRAFT', 'CLARIFY', 'CONFIRM');

-- Reads of the release before this one find the work orders of a requester in the new index.
drop index os_core.open_work_orders_of_a_requester;
