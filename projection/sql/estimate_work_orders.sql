-- About how many work orders there are, as planner and statistics know it; at least one.
select greatest(1, reltuples, pg_stat_get_live_tuples(oid))::bigint
from pg_catalog.pg_class
where oid = 'os_core.work_orders_current'::regclass
