-- A page of the tenants that have refused records, after a tenant: of the newest 1,000 of each, how many there are by reason and field.
with recursive found (tenant_id, number) as (
    select
        (
            select row.tenant_id from os_core.work_order_outcomes as row
            where row.tenant_id > %b and row.outcome = 'REFUSED'
            order by row.tenant_id limit 1
        ),
        1
    union all
    select
        (
            select row.tenant_id from os_core.work_order_outcomes as row
            where row.tenant_id > found.tenant_id and row.outcome = 'REFUSED'
            order by row.tenant_id limit 1
        ),
        found.number + 1
    from found
    where found.tenant_id is not null and found.number < %b
)
select found.tenant_id, counted.reason_code, counted.field, counted.refused, counted.newest_event_id
from found
cross join lateral (
    select
        recent.reason_code, recent.field, count(*) as refused, max(recent.event_id) as newest_event_id
    from (
        select row.reason_code, row.field, row.event_id
        from os_core.work_order_outcomes as row
        where row.tenant_id = found.tenant_id and row.outcome = 'REFUSED'
        order by row.event_id desc
        limit 1000
    ) as recent
    group by recent.reason_code, recent.field
) as counted
where found.tenant_id is not null
order by found.tenant_id, counted.refused desc
