-- About how many work orders there are, as the planner knows it; at least one.
select greatest(1, reltuples)::bigint
from pg_catalog.pg_class
where oid = 'os_core.work_orders_current'::regclass
