-- What os_core consists of, each part with its definition as Postgres prints it and, if it can be made without its rows, the
-- statements that make it. A part that widens lets PUBLIC or a role of ours do more.
with relation as (
    select class.oid, class.relname::text as name, class.relowner, class.relacl, class.relrowsecurity, class.relforcerowsecurity
    from pg_catalog.pg_class as class
    where class.relnamespace = to_regnamespace('os_core') and class.relkind = 'r'
), privilege (kind, target, owner, acl) as (
    select 'schema', 'os_core', nspowner, coalesce(nspacl, acldefault('n', nspowner))
    from pg_catalog.pg_namespace where nspname = 'os_core'
    union all
    select 'table', format('os_core.%I', name), relowner, coalesce(relacl, acldefault('r', relowner)) from relation
    union all
    select 'function', oid::regprocedure::text, proowner, coalesce(proacl, acldefault('f', proowner))
    from pg_catalog.pg_proc where pronamespace = to_regnamespace('os_core')
)
select 1 as step, 'the owner of the schema os_core' as name, pg_get_userbyid(nspowner)::text as definition,
    array[format('alter schema os_core owner to %I', pg_get_userbyid(nspowner))] as make, false as widens
from pg_catalog.pg_namespace where nspname = 'os_core'
union all
select 2, format('the table os_core.%I', name), 'table', null, false from relation
union all
select 3, format('the column os_core.%I.%I', relation.name, attribute.attname),
    concat_ws(
        ' ', format_type(attribute.atttypid, attribute.atttypmod), nullif(attribute.attcollation, 0)::regcollation::text,
        case when attribute.attnotnull then 'not null' end, pg_get_expr(preset.adbin, preset.adrelid)
    ), null, false
from relation
join pg_catalog.pg_attribute as attribute
    on attribute.attrelid = relation.oid and attribute.attnum > 0 and not attribute.attisdropped
left join pg_catalog.pg_attrdef as preset on preset.adrelid = attribute.attrelid and preset.adnum = attribute.attnum
union all
select 4, format('the owner of os_core.%I', name), pg_get_userbyid(relowner)::text,
    array[format('alter table os_core.%I owner to %I', name, pg_get_userbyid(relowner))], false
from relation
union all
select 5, 'the function ' || oid::regprocedure::text, pg_get_functiondef(oid), array[pg_get_functiondef(oid)], false
from pg_catalog.pg_proc where pronamespace = to_regnamespace('os_core')
union all
select 6, 'the owner of the function ' || oid::regprocedure::text, pg_get_userbyid(proowner)::text,
    array[format('alter function %1$s owner to %2$I', oid::regprocedure, pg_get_userbyid(proowner))], false
from pg_catalog.pg_proc where pronamespace = to_regnamespace('os_core')
union all
-- what is not null is said by the columns
select 7, format('the constraint %I of os_core.%I', conname, relation.name), pg_get_constraintdef(found.oid),
    array[
        format('alter table os_core.%I drop constraint if exists %I', relation.name, conname),
        format('alter table os_core.%1$I add constraint %2$I %3$s', relation.name, conname, pg_get_constraintdef(found.oid))
    ], false
from relation join pg_catalog.pg_constraint as found on found.conrelid = relation.oid and found.contype <> 'n'
union all
select 8, 'the index ' || indexrelid::regclass::text,
    pg_get_indexdef(indexrelid) || case when indisvalid then '' else ' (invalid)' end,
    array['drop index if exists ' || indexrelid::regclass::text, pg_get_indexdef(indexrelid)], false
from relation join pg_catalog.pg_index as index on index.indrelid = relation.oid
where not exists (select from pg_catalog.pg_constraint as found where found.conindid = index.indexrelid)
union all
select 9, format('the row-level security of os_core.%I', name),
    format('enabled %1$s, forced %2$s', relrowsecurity, relforcerowsecurity),
    array[
        format(
            'alter table os_core.%1$I %2$s row level security', name,
            case when relrowsecurity then 'enable' else 'disable' end
        ),
        format(
            'alter table os_core.%1$I %2$s row level security', name,
            case when relforcerowsecurity then 'force' else 'no force' end
        )
    ], false
from relation
union all
select 10, format('the trigger %I of os_core.%I', tgname, relation.name),
    pg_get_triggerdef(trigger.oid) || case tgenabled when 'A' then ' always' when 'O' then '' else ' disabled' end,
    array[
        format('drop trigger if exists %I on os_core.%I', tgname, relation.name),
        pg_get_triggerdef(trigger.oid),
        format(
            'alter table os_core.%1$I %2$s trigger %3$I', relation.name,
            case tgenabled when 'A' then 'enable always' else 'enable' end, tgname
        )
    ], false
from relation join pg_catalog.pg_trigger as trigger on trigger.tgrelid = relation.oid and not tgisinternal
union all
select 11, format('the policy %I of os_core.%I', policyname, tablename),
    concat_ws(' ', permissive, cmd, roles::text, 'using', qual, 'with check', with_check),
    array[
        format('drop policy if exists %I on os_core.%I', policyname, tablename),
        format(
            'create policy %1$I on os_core.%2$I as %3$s for %4$s to %5$s', policyname, tablename, permissive, cmd,
            (select string_agg(role::text, ', ') from unnest(roles) as role)
        ) || coalesce(' using (' || qual || ')', '') || coalesce(' with check (' || with_check || ')', '')
    ],
    exists (select from unnest(roles) as role where role = 'public' or starts_with(role::text, 'core_tables_'))
from pg_catalog.pg_policies where schemaname = 'os_core'
union all
select 12,
    format(
        'the grant of %1$s on the %2$s %3$s to %4$s', entry.privilege_type, privilege.kind, privilege.target,
        coalesce(nullif(entry.grantee, 0)::regrole::text, 'public')
    ), entry.is_grantable::text,
    array[format(
        'grant %1$s on %2$s %3$s to %4$s%5$s', entry.privilege_type, privilege.kind, privilege.target,
        coalesce(nullif(entry.grantee, 0)::regrole::text, 'public'),
        case when entry.is_grantable then ' with grant option' else '' end
    )], entry.grantee = 0 or starts_with(entry.grantee::regrole::text, 'core_tables_')
from privilege, aclexplode(privilege.acl) as entry
where entry.grantee <> privilege.owner -- whose rights follow from that
order by step, name
