-- What is due is counted in the order of the indexes of what is due: no other index has it, whatever the statistics say.
-- compatible: yes

set local role core_tables_owner;

create or replace function os_core.due_tenants(at bigint, after text, most bigint)
returns table (
    tenant_id text, retries bigint, timed_out_steps bigint, expired_leases bigint, expired_approvals bigint
)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    -- Not by a grant: a dump that is restored without our roles gives functions to everybody.
    if not pg_has_role(session_user, 'core_tables_scheduler', 'member') then
        raise exception 'permission denied: the login % is not a member of core_tables_scheduler', session_user
            using errcode = 'insufficient_privilege';
    end if;
    return query
    with recursive busy (tenant_id, is_start) as (
        select after collate "C", true
        union all
        select
            least(
                (
                    select attempt.tenant_id from os_core.work_order_step_attempts as attempt
                    where attempt.due_at is not null and attempt.tenant_id > busy.tenant_id
                    order by attempt.tenant_id, attempt.status, attempt.due_at limit 1
                ),
                (
                    select lease.tenant_id from os_core.work_order_leases as lease
                    where lease.due_at is not null and lease.tenant_id > busy.tenant_id
                    order by lease.tenant_id, lease.due_at limit 1
                ),
                (
                    select current.tenant_id from os_core.work_orders_current as current
                    where current.external_approval_pending and current.tenant_id > busy.tenant_id
                    order by current.tenant_id, current.external_approval_expires_at limit 1
                )
            ),
            false
        from busy
        where busy.tenant_id is not null
    )
    select *
    from (
        select
            busy.tenant_id,
            (
                select count(*) from (
                    select from os_core.work_order_step_attempts as attempt
                    where attempt.tenant_id = busy.tenant_id and attempt.status = 'SCHEDULED' and attempt.due_at <= at
                    order by attempt.due_at limit 1000
                ) as due
            ) as retries,
            (
                select count(*) from (
                    select from os_core.work_order_step_attempts as attempt
                    where attempt.tenant_id = busy.tenant_id and attempt.status = 'RUNNING' and attempt.due_at <= at
                    order by attempt.due_at limit 1000
                ) as due
            ) as timed_out_steps,
            (
                select count(*) from (
                    select from os_core.work_order_leases as lease
                    where lease.tenant_id = busy.tenant_id and lease.due_at <= at
                    order by lease.due_at limit 1000
                ) as due
            ) as expired_leases,
            (
                select count(*) from (
                    select from os_core.work_orders_current as current
                    where
                        current.tenant_id = busy.tenant_id and current.external_approval_pending
                        and current.external_approval_expires_at <= at
                    order by current.external_approval_expires_at limit 1000
                ) as due
            ) as expired_approvals
        from busy
        where not busy.is_start and busy.tenant_id is not null
    ) as counted
    where counted.retries + counted.timed_out_steps + counted.expired_leases + counted.expired_approvals > 0
    limit most;
end
$$;
