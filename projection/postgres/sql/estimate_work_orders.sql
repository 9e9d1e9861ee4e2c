-- About how many work orders and ledger events there are, as planner and statistics know it; at least one of each.
select
    max(rows) filter (where oid = 'os_core.work_orders_current'::regclass) as work_orders,
    max(rows) filter (where oid = 'os_core.work_order_ledger'::regclass) as events
from (
    select oid, greatest(1, reltuples, pg_stat_get_live_tuples(oid))::bigint as rows
    from pg_catalog.pg_class
    where oid in ('os_core.work_orders_current'::regclass, 'os_core.work_order_ledger'::regclass)
) as estimate
