-- A page of the tenants that have work orders, after a tenant, with how many are in each open status; 1,000 stands for any larger number.
with recursive found (tenant_id, number) as (
    select
        (
            select row.tenant_id from os_core.work_orders_current as row
            where row.tenant_id > %b
            order by row.tenant_id limit 1
        ),
        1
    union all
    select
        (
            select row.tenant_id from os_core.work_orders_current as row
            where row.tenant_id > found.tenant_id
            order by row.tenant_id limit 1
        ),
        found.number + 1
    from found
    where found.tenant_id is not null and found.number < %b
)
select
    found.tenant_id,
    (
        select count(*) from (
            select from os_core.work_orders_current as row
            where row.tenant_id = found.tenant_id and row.work_order_status between 'DRAFT' and 'DRAFT'
            order by row.work_order_status limit 1000
        ) as counted
    ) as draft,
    (
        select count(*) from (
            select from os_core.work_orders_current as row
            where row.tenant_id = found.tenant_id and row.work_order_status between 'CLARIFY' and 'CLARIFY'
            order by row.work_order_status limit 1000
        ) as counted
    ) as clarify,
    (
        select count(*) from (
            select from os_core.work_orders_current as row
            where row.tenant_id = found.tenant_id and row.work_order_status between 'CONFIRM' and 'CONFIRM'
            order by row.work_order_status limit 1000
        ) as counted
    ) as confirm,
    (
        select count(*) from (
            select from os_core.work_orders_current as row
            where row.tenant_id = found.tenant_id and row.work_order_status between 'EXECUTING' and 'EXECUTING'
            order by row.work_order_status limit 1000
        ) as counted
    ) as executing
from found
where found.tenant_id is not null
order by found.tenant_id
