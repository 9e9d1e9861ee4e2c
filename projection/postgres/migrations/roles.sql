-- The roles that are missing; and the owner's rights for the administrator, who is given none with a role that he creates.
do $$
begin
    -- owner never logs in: it holds the tables, so that no session that reads or writes rows can change a rule.
    if not exists (select from pg_roles where rolname = 'core_tables_owner') then
        create role core_tables_owner nologin;
    end if;
    if not exists (select from pg_roles where rolname = 'core_tables_worker') then
        create role core_tables_worker login;
    end if;
    if not exists (select from pg_roles where rolname = 'core_tables_reader') then
        create role core_tables_reader login;
    end if;
    if not exists (select from pg_roles where rolname = 'core_tables_operator') then
        create role core_tables_operator login;
    end if;
    if not exists (select from pg_roles where rolname = 'core_tables_scheduler') then
        create role core_tables_scheduler login;
    end if;
    if not (pg_has_role('core_tables_owner', 'USAGE') and pg_has_role('core_tables_owner', 'SET')) then
        execute format('grant core_tables_owner to %I', current_user);
    end if;
end
$$;
