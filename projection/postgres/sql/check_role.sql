-- Whether this session sees every tenant, and whether it may write; a reader would find everything equal, seeing nothing.
select
    pg_has_role(current_user, 'core_tables_worker', 'usage') or pg_has_role(current_user, 'core_tables_operator', 'usage'),
    pg_has_role(current_user, 'core_tables_worker', 'usage'),
    current_user::text
