-- A page of the work orders of a tenant that have a row anywhere, after a given one.
select tenant_id, work_order_id
from (
    (
        select tenant_id, work_order_id
        from os_core.work_order_ledger
        where tenant_id = %b and work_order_id > %b
        group by tenant_id, work_order_id
        order by tenant_id, work_order_id
        limit %b
    )
    union
    (
        select tenant_id, work_order_id
        from os_core.work_orders_current
        where tenant_id = %b and work_order_id > %b
        group by tenant_id, work_order_id
        order by tenant_id, work_order_id
        limit %b
    )
    union
    (
        select tenant_id, work_order_id
        from os_core.work_order_step_attempts
        where tenant_id = %b and work_order_id > %b
        group by tenant_id, work_order_id
        order by tenant_id, work_order_id
        limit %b
    )
    union
    (
        select tenant_id, work_order_id
        from os_core.work_order_leases
        where tenant_id = %b and work_order_id > %b
        group by tenant_id, work_order_id
        order by tenant_id, work_order_id
        limit %b
    )
) as page
order by tenant_id, work_order_id
limit %b
