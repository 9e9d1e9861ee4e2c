-- Whether this session sees every tenant, and whether it may write; a reader would find everything equal, seeing nothing.
select
    pg_has_role(current_user, 'core_tables_worker', 'usage') or pg_has_role(current_user, 'core_tables_operator', 'usage')
        as sees_all,
    pg_has_role(current_user, 'core_tables_worker', 'usage') as may_write,
    current_user::text as name
