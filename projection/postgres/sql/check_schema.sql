-- What is not as the migrations made it, one sentence a row.
select 'the table os_core.' || expected.name || ' is missing' as problem
from unnest(array[
    'migrations', 'lanes', 'work_order_topics', 'registered_schemas', 'lane_stops', 'reader_tenants', 'work_order_ledger',
    'work_order_outcomes', 'work_orders_current', 'work_order_step_attempts', 'work_order_leases'
]) as expected (name)
where to_regclass('os_core.' || expected.name) is null
union all
select 'row-level security is not forced on os_core.' || class.relname
from pg_catalog.pg_class as class
where class.relnamespace = to_regnamespace('os_core') and class.relkind = 'r'
    and class.relname not in (
        'migrations', 'lanes', 'work_order_topics', 'registered_schemas', 'lane_stops', 'reader_tenants'
    )
    and not (class.relrowsecurity and class.relforcerowsecurity)
union all
select 'the append-only trigger is missing or not enabled always on os_core.' || expected.name
from unnest(array['work_order_ledger', 'work_order_outcomes', 'registered_schemas']) as expected (name)
where not exists (
    select from pg_catalog.pg_trigger as trigger
    where trigger.tgrelid = to_regclass('os_core.' || expected.name)
        and trigger.tgname = 'append_only' and trigger.tgenabled = 'A'
)
union all
select 'the role ' || current_user || ' passes row-level security by, work as core_tables_worker or core_tables_reader'
from pg_catalog.pg_roles as role
where role.rolname = current_user and (role.rolsuper or role.rolbypassrls)
union all
select 'permission denied: the role ' || current_user || ' may not fold, work as core_tables_worker'
where not pg_has_role(current_user, 'core_tables_worker', 'usage')
