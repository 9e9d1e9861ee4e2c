-- The tables of contract section 5, the positions of the fold, who may do what, and what nobody may do.
-- compatible: no

create schema os_core authorization core_tables_owner;

set local role core_tables_owner;

-- Which migrations made the database; `init` adds them, and a worker compares them with those of its release.
create table os_core.migrations (
    name text collate "C" primary key,
    -- whether workers of the release before it may continue.
    compatible boolean not null,
    applied_at timestamptz not null default now()
);

-- Which topic holds which lanes; a later topic's lanes continue after the last, so that ids keep rising.
create table os_core.work_order_topics (
    first_lane integer primary key,
    topic text not null,
    topic_id text not null,
    cluster_id text not null,
    partitions integer not null check (partitions > 0),
    audit_topic text not null,
    audit_topic_id text not null,
    -- 2 048 lanes keep ids below 2^53.
    constraint lanes_within_ids check (first_lane >= 0 and first_lane + partitions <= 2048),
    -- a topic that was deleted and recreated is another topic.
    constraint one_row_per_topic unique (topic_id)
);

-- Positions: offsets, "next to do". The worker's first statement compares applied and epoch, and sets applied.
create table os_core.lanes (
    lane integer primary key,
    applied bigint not null default 0,
    audited bigint not null default 0,
    epoch bigint not null default 0,
    fold_version integer not null,
    constraint audited_is_a_floor check (audited between 0 and applied)
) with (fillfactor = 50);

-- The writer schemas of records, by the fingerprint as it is on the wire. A record of a lane with a fingerprint that is not
-- here, or below its first offset, is refused. `init` adds rows, and raises the epochs of lanes that are folded already.
create table os_core.registered_schemas (
    lane integer not null,
    fingerprint text collate "C" not null check (fingerprint ~ '^[0-9a-f]{16}$'),
    first_offset bigint not null check (first_offset >= 0),
    registered_at timestamptz not null default now(),
    primary key (lane, fingerprint)
);

-- Why lanes stopped: where (the first record that was not folded), and when they got past it. Written by the worker that
-- stopped, shown by `status`.
create table os_core.lane_stops (
    lane integer not null,
    event_id bigint not null,
    cause text collate "C" not null,
    sentence text not null,
    worker text not null,
    since timestamptz not null default clock_timestamp(),
    cleared timestamptz
);

-- a worker that is started again and again at the same record: one row, with the time of the first stop.
create unique index one_stop_per_lane on os_core.lane_stops (lane) where cleared is null;

create table os_core.work_order_ledger (
    tenant_id text collate "C" not null,
    work_order_event_id bigint not null check (work_order_event_id > 0),
    schema_version integer not null,
    created_at bigint not null,
    work_order_id text collate "C" not null,
    correlation_id numeric(39, 0) not null,
    turn_id bigint not null,
    event_type text collate "C" not null,
    status_before text collate "C",
    work_order_status text collate "C" not null,
    reason_code bigint not null,
    expected_last_event_id bigint,
    step_id text collate "C",
    step_input_hash text collate "C",
    lease_owner_id text collate "C",
    lease_token_hash text collate "C",
    lease_expires_at bigint,
    idempotency_key text collate "C",
    payload jsonb not null,
    primary key (tenant_id, work_order_event_id),
    -- two sends of one write, whichever way they raced, leave one event.
    constraint one_event_per_idempotency_key unique (tenant_id, work_order_id, idempotency_key)
);

-- The events of a work order in order, so that a page of a long history reads no more than the page.
create index events_of_a_work_order on os_core.work_order_ledger (tenant_id, work_order_id, work_order_event_id);

-- created_at may go backwards, so the order of ids says nothing about it.
create index events_by_creation on os_core.work_order_ledger (tenant_id, created_at, work_order_event_id);

-- The events that closed a work order. It lies on the ledger: an index of last_event_id would cost each update of a record.
create index closing_events
    on os_core.work_order_ledger (tenant_id, work_order_event_id)
    where work_order_status in ('DONE', 'REFUSED', 'FAILED', 'CANCELED')
    and (status_before is null or status_before in ('DRAFT', 'CLARIFY', 'CONFIRM', 'EXECUTING'));

create table os_core.work_order_outcomes (
    tenant_id text collate "C" not null,
    event_id bigint not null check (event_id > 0),
    work_order_id text collate "C",
    event_type text collate "C",
    correlation_id numeric(39, 0),
    turn_id bigint,
    idempotency_key text collate "C",
    created_at bigint,
    outcome text collate "C" not null check (outcome in ('REPLAYED', 'REFUSED')),
    reason_code text collate "C" not null,
    field text,
    sentence text,
    first_event_id bigint,
    request_differs boolean,
    -- correlation_id as readers look it up: below a policy, Postgres uses an index only for operators that it calls leakproof, and
    -- those of numeric are not.
    correlation text collate "C" generated always as (correlation_id::text) stored,
    primary key (tenant_id, event_id),
    constraint a_replay_names_the_first check ((outcome = 'REPLAYED') = (first_event_id is not null)),
    constraint a_replay_says_whether_it_differs check ((outcome = 'REPLAYED') = (request_differs is not null)),
    constraint a_refusal_says_why check ((outcome = 'REFUSED') = (sentence is not null))
);

create index outcomes_of_a_correlation
    on os_core.work_order_outcomes (tenant_id, correlation, event_id) where correlation is not null;

create index refusals on os_core.work_order_outcomes (tenant_id, event_id) where outcome = 'REFUSED';

create table os_core.work_orders_current (
    tenant_id text collate "C" not null,
    work_order_id text collate "C" not null,
    correlation_id numeric(39, 0) not null,
    turn_id bigint not null,
    work_order_status text collate "C" not null check (
        work_order_status in ('DRAFT', 'CLARIFY', 'CONFIRM', 'EXECUTING', 'DONE', 'REFUSED', 'FAILED', 'CANCELED')
    ),
    last_event_id bigint not null,
    last_reason_code bigint not null,
    last_updated_at bigint not null,
    step_id text collate "C",
    step_input_hash text collate "C",
    lease_owner_id text collate "C",
    lease_token_hash text collate "C",
    lease_expires_at bigint,
    requester_user_id text collate "C",
    requester_speaker_id text collate "C",
    device_id text collate "C",
    session_id text collate "C",
    process_id text collate "C",
    blueprint_version text collate "C",
    intent_type text collate "C",
    fields_json jsonb not null,
    missing_fields_json jsonb not null,
    asked_fields_json jsonb not null,
    resolved_fields_json jsonb not null,
    prompt_dedupe_keys_json jsonb not null,
    confirmation_state text collate "C" check (
        confirmation_state in ('NOT_REQUIRED', 'PENDING', 'CONFIRMED', 'EXPIRED')
    ),
    external_approval_pending boolean not null,
    external_approval_request_id text collate "C",
    external_approval_target_user_id text collate "C",
    external_approval_expires_at bigint,
    external_approval_decision text collate "C",
    active_step_id text collate "C",
    active_step_attempt bigint,
    timeout_ms_active bigint,
    max_retries_active bigint,
    retry_backoff_ms_active bigint,
    next_retry_at bigint,
    last_failure_reason_code bigint,
    created_at bigint not null,
    closed_at bigint,
    -- correlation_id as readers look it up, as in work_order_outcomes.
    correlation text collate "C" not null generated always as (correlation_id::text) stored,
    primary key (tenant_id, work_order_id),
    -- a thread is bound to one work order: the second that claims it is refused before it gets here.
    constraint one_work_order_per_correlation unique (tenant_id, correlation)
) with (fillfactor = 70);

-- An update that changes no column of an index stays HOT, so no index here has one that every event changes. Status and approvals
-- change with some.
create index open_work_orders_of_a_requester
    on os_core.work_orders_current (tenant_id, requester_user_id) where closed_at is null;

create index work_orders_by_status on os_core.work_orders_current (tenant_id, work_order_status, work_order_id);

create index approvals_by_expiry
    on os_core.work_orders_current (tenant_id, external_approval_expires_at, work_order_id)
    where external_approval_pending;

create index approvals_of_a_target
    on os_core.work_orders_current (
        tenant_id, external_approval_target_user_id, external_approval_expires_at, work_order_id
    )
    where external_approval_pending;

create table os_core.work_order_step_attempts (
    tenant_id text collate "C" not null,
    work_order_id text collate "C" not null,
    step_id text collate "C" not null,
    attempt_index bigint not null check (attempt_index between 0 and 2147483647),
    -- RUNNING -> SUCCEEDED, FAILED, CANCELED; SCHEDULED -> RUNNING, CANCELED; any event may come in any status.
    status text collate "C" not null check (status in ('SCHEDULED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELED')),
    timeout_ms bigint,
    max_retries bigint,
    retry_backoff_ms bigint,
    next_retry_at bigint,
    started_at bigint,
    finished_at bigint,
    reason_code bigint not null,
    idempotency_key text collate "C",
    -- When somebody must act: SCHEDULED at next_retry_at, RUNNING at its timeout. Null once there is nothing to do, as when the
    -- work order is closed: what is history must stay out of the index of what is due.
    due_at bigint,
    primary key (tenant_id, work_order_id, step_id, attempt_index),
    constraint only_an_open_attempt_is_due check (due_at is null or status in ('SCHEDULED', 'RUNNING'))
) with (fillfactor = 80);

-- Retries and timeouts, each oldest first; the other columns are the cursor.
create index attempts_by_due_time
    on os_core.work_order_step_attempts (tenant_id, status, due_at, work_order_id, step_id, attempt_index)
    where due_at is not null;

create table os_core.work_order_leases (
    tenant_id text collate "C" not null,
    work_order_id text collate "C" not null,
    granted_event_id bigint not null,
    -- ACTIVE -> RELEASED by its owner or a cancel; ACTIVE -> EXPIRED when the next grant passes it.
    lease_state text collate "C" not null check (lease_state in ('ACTIVE', 'EXPIRED', 'RELEASED')),
    lease_owner_id text collate "C" not null,
    lease_token_hash text collate "C" not null,
    acquired_at bigint not null,
    renewed_at bigint,
    lease_expires_at bigint not null,
    released_at bigint,
    -- When it expires; null once it is not ACTIVE, or its work order is closed.
    due_at bigint,
    primary key (tenant_id, work_order_id, granted_event_id),
    constraint a_released_lease_says_when check ((lease_state = 'RELEASED') = (released_at is not null)),
    constraint only_an_active_lease_is_due check (due_at is null or lease_state = 'ACTIVE')
) with (fillfactor = 80);

-- two owners who ask at once: at most one lease of a work order is ACTIVE.
create unique index one_active_lease_per_work_order
    on os_core.work_order_leases (tenant_id, work_order_id) where lease_state = 'ACTIVE';

-- Expired leases, oldest first.
create index leases_by_due_time
    on os_core.work_order_leases (tenant_id, due_at, work_order_id) where due_at is not null;

-- Append-only, for every role and every way to change a row, session_replication_role = replica included.
create function os_core.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'OS_WORK_ORDER_APPEND_ONLY_VIOLATION: % on %.% is refused; rows are only ever added',
        tg_op, tg_table_schema, tg_table_name
        using errcode = 'CT001';
end
$$;

create trigger append_only before update or delete or truncate on os_core.work_order_ledger
    for each statement execute function os_core.refuse_change();

alter table os_core.work_order_ledger enable always trigger append_only;

create trigger append_only before update or delete or truncate on os_core.work_order_outcomes
    for each statement execute function os_core.refuse_change();

alter table os_core.work_order_outcomes enable always trigger append_only;

create trigger append_only before update or delete or truncate on os_core.registered_schemas
    for each statement execute function os_core.refuse_change();

alter table os_core.registered_schemas enable always trigger append_only;

-- Which tenants a login reads; tenant is null for one that may read any. A login that is not listed reads none.
create table os_core.reader_tenants (
    role text collate "C" not null,
    tenant text collate "C",
    constraint a_login_is_listed_once_per_tenant unique nulls not distinct (role, tenant)
);

insert into os_core.reader_tenants (role, tenant) values ('core_tables_reader', null);

-- The tenant that a reader's transaction asks for, if its login may read it. A login can set any text, and become any role that was
-- granted to it; session_user stays who logged in.
create function os_core.reader_tenant() returns text language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    asked constant text collate "C" := nullif(current_setting('core_tables.tenant_id', true), '');
begin
    if asked is null or exists (
        select from os_core.reader_tenants as listed
        where listed.role = session_user and (listed.tenant is null or listed.tenant = asked)
    ) then
        return asked;
    end if;
    raise exception 'permission denied: the login % may not read the tenant that it asked for', session_user
        using errcode = 'insufficient_privilege', hint = 'An administrator lists it in os_core.reader_tenants.';
end
$$;

-- The tenants that have something due at a time, after a tenant, and how much of each kind (1 000 if there is more). Nobody sees
-- which work orders: a scheduler that serves all tenants need not be able to read any. It goes from tenant to tenant by the indexes of
-- what is due, so it reads a few entries of each tenant that has work in progress.
create function os_core.due_tenants(at bigint, after text, most bigint)
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
                    order by attempt.tenant_id limit 1
                ),
                (
                    select lease.tenant_id from os_core.work_order_leases as lease
                    where lease.due_at is not null and lease.tenant_id > busy.tenant_id
                    order by lease.tenant_id limit 1
                ),
                (
                    select current.tenant_id from os_core.work_orders_current as current
                    where current.external_approval_pending and current.tenant_id > busy.tenant_id
                    order by current.tenant_id limit 1
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
                    limit 1000
                ) as due
            ) as retries,
            (
                select count(*) from (
                    select from os_core.work_order_step_attempts as attempt
                    where attempt.tenant_id = busy.tenant_id and attempt.status = 'RUNNING' and attempt.due_at <= at
                    limit 1000
                ) as due
            ) as timed_out_steps,
            (
                select count(*) from (
                    select from os_core.work_order_leases as lease
                    where lease.tenant_id = busy.tenant_id and lease.due_at <= at
                    limit 1000
                ) as due
            ) as expired_leases,
            (
                select count(*) from (
                    select from os_core.work_orders_current as current
                    where
                        current.tenant_id = busy.tenant_id and current.external_approval_pending
                        and current.external_approval_expires_at <= at
                    limit 1000
                ) as due
            ) as expired_approvals
        from busy
        where not busy.is_start and busy.tenant_id is not null
    ) as counted
    where counted.retries + counted.timed_out_steps + counted.expired_leases + counted.expired_approvals > 0
    limit most;
end
$$;

-- One tenant per session, whatever the query says: a session without the setting sees no row.
alter table os_core.work_order_ledger enable row level security;

alter table os_core.work_order_ledger force row level security;

alter table os_core.work_order_outcomes enable row level security;

alter table os_core.work_order_outcomes force row level security;

alter table os_core.work_orders_current enable row level security;

alter table os_core.work_orders_current force row level security;

alter table os_core.work_order_step_attempts enable row level security;

alter table os_core.work_order_step_attempts force row level security;

alter table os_core.work_order_leases enable row level security;

alter table os_core.work_order_leases force row level security;

do $$
declare
    name text;
begin
    foreach name in array array[
        'work_order_ledger', 'work_order_outcomes', 'work_orders_current', 'work_order_step_attempts', 'work_order_leases'
    ] loop
        execute format(
            'create policy worker_sees_all on os_core.%I for all to core_tables_worker using (true) with check (true)', name);
        execute format(
            'create policy operator_sees_all on os_core.%I for select to core_tables_operator using (true)', name);
        execute format(
            'create policy reader_sees_one_tenant on os_core.%I for select to core_tables_reader '
            'using (tenant_id = (select os_core.reader_tenant()))', name);
    end loop;
end
$$;

-- What os_core.due_tenants counts, as its owner; nobody logs in as the owner.
create policy owner_counts_what_is_due on os_core.work_order_step_attempts
    for select to core_tables_owner using (due_at is not null);

create policy owner_counts_what_is_due on os_core.work_order_leases
    for select to core_tables_owner using (due_at is not null);

create policy owner_counts_what_is_due on os_core.work_orders_current
    for select to core_tables_owner using (external_approval_pending);

grant usage on schema os_core
    to core_tables_worker, core_tables_reader, core_tables_operator, core_tables_scheduler;

grant select on all tables in schema os_core to core_tables_worker, core_tables_reader, core_tables_operator;

-- A reader need not know which tenants others read.
revoke select on os_core.reader_tenants from core_tables_worker, core_tables_reader;

grant insert on os_core.work_order_ledger, os_core.work_order_outcomes to core_tables_worker;

grant insert, update, delete
    on os_core.work_orders_current, os_core.work_order_step_attempts, os_core.work_order_leases to core_tables_worker;

grant update on os_core.lanes to core_tables_worker;

grant insert, update on os_core.lane_stops to core_tables_worker;
