"""AT-OS-CORE-DB-01 and -02: a session sees one tenant, whatever it asks; nobody changes what was appended."""

from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from core_tables.cli import wiring
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas import events
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import APPEND_ONLY_VIOLATION, ContractError, CoreTablesError, SetupError
from core_tables.schemas.vocabulary import MAX_I64

from .builders import HOUR, START, make
from .world import World

pytestmark = pytest.mark.stack

TABLES = [
    "work_order_ledger",
    "work_order_outcomes",
    "work_orders_current",
    "work_order_step_attempts",
    "work_order_leases",
]
APPEND_ONLY = TABLES[:2]
SHARED = 42  # a correlation_id that both tenants use


def append_two_tenants(world: World) -> None:
    """Two tenants with the same work order id, each with a row in every table; a worker must run."""
    for tenant in ("acme", "globex"):
        payload = events.WorkOrderCreated("ada", intent_type=tenant)
        world.append(make("WORK_ORDER_CREATED", tenant_id=tenant, payload=payload, idempotency_key="first"))
        closed = {"tenant_id": tenant, "work_order_id": "order-2", "correlation_id": SHARED}
        world.append(make("FIELD_SET", work_order_status="DONE", **closed))
        world.append(make("FIELD_SET", expected_last_event_id=1, **closed))
        world.append(
            make("EXTERNAL_APPROVAL_REQUESTED", tenant_id=tenant),
            make("STEP_STARTED", tenant_id=tenant, step_id="step-2"),
            make("STEP_RETRY_SCHEDULED", tenant_id=tenant),
            make("FIELD_SET", tenant_id=tenant, expected_last_event_id=1),
        )
        assert world.outcome(make("LEASE_ACQUIRED", tenant_id=tenant)) == Accepted()


@pytest.fixture(scope="module", autouse=True)
def _two_tenants(world: World) -> Iterator[None]:
    """Two tenants with the same work order id, each with a row in every table."""
    with world.working():
        append_two_tenants(world)
        yield


READS: dict[str, Callable[[Reads], object]] = {
    "current": lambda reads: reads.current("acme", "order-1"),
    "current by correlation": lambda reads: reads.current_by_correlation("acme", make("FIELD_SET").correlation_id),
    "ledger": lambda reads: reads.ledger("acme"),
    "ledger of a work order": lambda reads: reads.ledger("acme", "order-1"),
    "record at an event id": lambda reads: reads.current_at("acme", "order-1", MAX_I64),
    "attempts": lambda reads: reads.attempts("acme", "order-1"),
    "lease": lambda reads: reads.active_lease("acme", "order-1", START),
    "last lease": lambda reads: reads.last_lease("acme", "order-1"),
    "work order with steps and lease": lambda reads: reads.work_order("acme", "order-1"),
    "by status": lambda reads: reads.current_by_status("acme", "DRAFT"),
    "closed": lambda reads: reads.closed_after("acme", 0),
    "newest closed": lambda reads: reads.closed_before("acme"),
    "open of a requester": lambda reads: reads.open_of_requester("acme", "ada"),
    "ledger by creation": lambda reads: reads.ledger_by_creation("acme"),
    "bound event": lambda reads: reads.bound_event("acme", "order-1", "first"),
    "records of a correlation": lambda reads: reads.records_of_correlation("acme", SHARED),
    "expired approvals": lambda reads: reads.expired_approvals("acme", START + 2 * HOUR),
    "awaited approvals": lambda reads: reads.awaited_approvals("acme", "boss"),
    "due retries": lambda reads: reads.due_retries("acme", START + 2 * HOUR),
    "timed-out steps": lambda reads: reads.timed_out_steps("acme", START + 2 * HOUR),
    "expired leases": lambda reads: reads.expired_leases("acme", START + 2 * HOUR),
    "refused": lambda reads: reads.refused("acme"),
    "pending from Postgres": lambda reads: reads.pending(PendingQuery("acme", "ada", START)),
    "pending from the cache": lambda reads: reads.pending(PendingQuery("acme", "ada", START)),
}


# Reads that are of no tenant, and what is no read.
OF_NO_TENANT = {
    "until",
    "wait_with",
    "close",
    "topics",
    "lane_of_tenant",
    "applied_of",
    "by_database",
    "registered_fingerprints",
}
# These are asked about in tests of their own below.
ASKED_BELOW = {"outcome", "outcomes", "outcomes_of", "due_tenants"}


def test_db01_no_read_is_left_out_here() -> None:
    """Every public method of the reads is called in READS."""
    called = {name for ask in READS.values() for name in ask.__code__.co_names}
    public = {name for name in dir(Reads) if not name.startswith("_")}
    assert public - OF_NO_TENANT - ASKED_BELOW - called == set()


@pytest.mark.parametrize("read", READS)
def test_db01_every_read_answers_for_its_tenant_alone(world: World, read: str) -> None:
    answer = READS[read](world.reads)
    assert answer, "the tenant has something to read"
    others = world.admin.execute(
        "select work_order_event_id from os_core.work_order_ledger where tenant_id = 'globex' "
        "union all select event_id from os_core.work_order_outcomes where tenant_id = 'globex'"
    ).fetchall()
    text = repr(answer)
    assert "globex" not in text
    assert not [row[0] for row in others if str(row[0]) in text]


def test_db01_an_outcome_of_another_tenant_is_not_found(world: World) -> None:
    row = world.admin.execute("select event_id from os_core.work_order_outcomes where tenant_id = 'globex'").fetchone()
    assert row is not None
    assert world.reads.outcome("globex", row[0]) is not None
    assert world.reads.outcome("acme", row[0]) is None
    assert world.reads.outcomes("acme", [row[0]]) == {}
    assert world.reads.outcomes_of({"acme": [row[0]]}) == {}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("role", ["reader", "nobody"])
def test_db01_plain_sql_without_a_tenant_sees_no_row(world: World, table: str, role: str) -> None:
    with psycopg.connect(world.settings.reader()) as connection:
        if role == "nobody":  # what the setting is after a transaction that had set it
            connection.execute("select set_config('core_tables.tenant_id', 'acme', true)")
            connection.commit()
        assert connection.execute(f"select * from os_core.{table}".encode()).fetchall() == []


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "where", ["", "where tenant_id = 'globex'", "where true or tenant_id = 'globex'", "where tenant_id <> 'acme'"]
)
def test_db01_plain_sql_sees_the_tenant_of_its_session_alone(world: World, table: str, where: str) -> None:
    with psycopg.connect(world.settings.reader()) as connection:
        connection.execute("select set_config('core_tables.tenant_id', 'acme', true)")
        tenants = {
            row[0] for row in connection.execute(f"select tenant_id from os_core.{table} {where}".encode()).fetchall()
        }
        assert tenants <= {"acme"}
        assert tenants or (where.endswith(("'globex'", "'acme'")) and "or" not in where)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "change", ["insert into {} default values", "update {} set tenant_id = 'x'", "delete from {}", "truncate {}"]
)
def test_db01_a_reader_changes_nothing(world: World, table: str, change: str) -> None:
    with psycopg.connect(world.settings.reader()) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(change.format(f"os_core.{table}").encode())


def test_db01_a_reader_cannot_become_somebody_else(world: World) -> None:
    for role in (
        "core_tables_worker",
        "core_tables_owner",
        "core_tables_operator",
        "core_tables_scheduler",
        "postgres",
    ):
        with (
            psycopg.connect(world.settings.reader()) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(f"set role {role}".encode())


def test_db01_the_owner_does_not_log_in(world: World) -> None:
    may_log_in = world.admin.execute("select rolcanlogin from pg_roles where rolname = 'core_tables_owner'").fetchall()
    assert may_log_in == [(False,)]
    with pytest.raises(psycopg.OperationalError, match="core_tables_owner"):
        psycopg.connect(make_conninfo(world.settings.admin(), user="core_tables_owner"))


def test_db01_every_table_with_a_tenant_has_forced_policies(world: World) -> None:
    found = world.admin.execute(
        "select c.relname, c.relkind, c.relforcerowsecurity, count(p.*) from pg_class c "
        "join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' "
        "left join pg_policy p on p.polrelid = c.oid "
        "where c.relnamespace = 'os_core'::regnamespace and c.relkind in ('r', 'v', 'm', 'p', 'f') group by 1, 2, 3 order by 1"
    ).fetchall()
    # The owner counts for schedulers what is due, in three of them.
    policies = {**dict.fromkeys(TABLES, 4), "work_order_ledger": 3, "work_order_outcomes": 3}
    assert found == [(table, "r", True, policies[table]) for table in sorted(TABLES)], (
        "views would need security_invoker"
    )


def test_db01_a_tenant_whose_name_is_sql_is_only_a_name(world: World) -> None:
    assert world.reads.current("acme' or '1'='1", "order-1") is None
    with pytest.raises(ContractError):
        world.reads.current("", "order-1")
    with pytest.raises(ContractError):
        world.reads.ledger("a\0b")


def test_db01_lists_of_tenants_whose_names_run_together_are_kept_apart(world: World) -> None:
    world.append(make("WORK_ORDER_CREATED", tenant_id="t:1", payload=events.WorkOrderCreated("2")))
    assert (
        world.outcome(make("WORK_ORDER_CREATED", tenant_id="t", payload=events.WorkOrderCreated("1:2"))) == Accepted()
    )
    for _ in range(2):
        answer = world.reads.pending(PendingQuery("t", "1:2", START))
        assert [offer.correlation_id for offer in answer.offers] == [make("FIELD_SET", tenant_id="t").correlation_id]


CHANGES = [
    "update os_core.{} set tenant_id = 'x'",
    "update os_core.{} set tenant_id = 'x' where false",
    "delete from os_core.{}",
    "truncate os_core.{}",
]


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("replica", [False, True])
def test_db02_even_a_superuser_cannot_change_what_was_appended(
    world: World, table: str, change: str, replica: bool
) -> None:
    with psycopg.connect(world.settings.admin()) as connection:
        if replica:
            connection.execute("set session_replication_role = replica")
        with pytest.raises(psycopg.Error, match=APPEND_ONLY_VIOLATION):
            connection.execute(change.format(table).encode())


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_db02_the_worker_cannot_change_what_was_appended(world: World, table: str) -> None:
    for change in CHANGES:
        with (
            psycopg.connect(world.settings.worker()) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(change.format(table).encode())


def test_db02_an_upsert_and_a_merge_cannot_either(world: World) -> None:
    for statement in (
        "insert into os_core.work_order_ledger select * from os_core.work_order_ledger "
        "on conflict (tenant_id, work_order_event_id) do update set turn_id = 9",
        "merge into os_core.work_order_ledger l using os_core.work_order_ledger s on l.tenant_id = s.tenant_id "
        "when matched then delete",
    ):
        with pytest.raises(psycopg.Error, match=APPEND_ONLY_VIOLATION):
            world.admin.execute(statement.encode())


def test_db02_the_violation_becomes_an_error_with_its_reason_code(world: World) -> None:
    from core_tables.projection.postgres.failures import translated

    with pytest.raises(CoreTablesError) as violation, translated():
        world.admin.execute("delete from os_core.work_order_ledger")
    assert violation.value.reason_code == APPEND_ONLY_VIOLATION


@pytest.fixture
def login(world: World) -> Iterator[str]:
    """A login of a test's own, with the reader's role."""
    name = f"{world.name}_login"
    world.create_role(name)
    world.admin.execute(f"grant core_tables_reader to {name}".encode())
    try:
        yield name
    finally:
        world.admin.execute("delete from os_core.reader_tenants where role = %s", (name,))
        world.admin.execute(f"drop role {name}".encode())


def listed(world: World, login: str, tenant: str | None) -> None:
    world.admin.execute("insert into os_core.reader_tenants values (%s, %s)", (login, tenant))


def tenants_seen(world: World, login: str, table: str, asked: str) -> set[str]:
    """The tenants whose rows a login sees in a table when it sets a tenant."""
    with psycopg.connect(make_conninfo(world.settings.admin(), user=login)) as connection:
        connection.execute("select set_config('core_tables.tenant_id', %s, true)", (asked,))
        return {row[0] for row in connection.execute(f"select tenant_id from os_core.{table}".encode()).fetchall()}


@pytest.mark.parametrize("table", TABLES)
def test_db01_a_login_sees_the_tenants_it_is_listed_with_whatever_it_sets(world: World, login: str, table: str) -> None:
    listed(world, login, "acme")
    assert tenants_seen(world, login, table, "acme") == {"acme"}
    assert tenants_seen(world, login, table, "") == set()
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not read the tenant"):
        tenants_seen(world, login, table, "globex")
    listed(world, login, "globex")
    assert tenants_seen(world, login, table, "globex") == {"globex"}


@pytest.mark.parametrize("table", TABLES)
def test_db01_a_login_that_is_not_listed_reads_nothing_and_is_told_so(world: World, login: str, table: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"the login {login} may not read"):
        tenants_seen(world, login, table, "acme")
    listed(world, login, None)
    assert tenants_seen(world, login, table, "acme") == {"acme"}
    assert tenants_seen(world, login, table, "globex") == {"globex"}


def test_db01_a_login_cannot_borrow_the_tenants_of_a_role_that_was_granted_to_it(world: World, login: str) -> None:
    """core_tables_reader may read any tenant where it logs in itself; a login that becomes it may not."""
    listed(world, login, "acme")
    with psycopg.connect(make_conninfo(world.settings.admin(), user=login)) as connection:
        connection.execute("set role core_tables_reader")
        connection.execute("select set_config('core_tables.tenant_id', 'globex', true)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from os_core.work_orders_current")


def test_db01_a_reader_neither_sees_nor_changes_who_reads_what(world: World) -> None:
    for statement in (
        "select * from os_core.reader_tenants",
        "insert into os_core.reader_tenants values (session_user, null)",
        "select * from os_core.due_tenants(1, '', 1)",
    ):
        with (
            psycopg.connect(world.settings.reader()) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(statement.encode())


def test_db01_our_reads_name_the_login_that_may_not_read(world: World, login: str) -> None:
    with closing(Reads(ReadPool.connect(make_conninfo(world.settings.admin(), user=login), "test"))) as reads:
        with pytest.raises(SetupError, match=f"{login} may not read the tenant"):
            reads.current("acme", "order-1")
        listed(world, login, "acme")
        assert reads.current("acme", "order-1") is not None


def test_db01_a_scheduler_sees_which_tenants_have_something_due_and_nothing_else(world: World) -> None:
    with closing(wiring.scheduler_reads(world.settings)) as reads:
        assert reads.due_tenants(1) == []
        found = reads.due_tenants(START + 2 * HOUR)
        assert [tuple(tenant) for tenant in found] == [("acme", 1, 1, 1, 1), ("globex", 1, 1, 1, 1)]
        assert reads.due_tenants(START + 2 * HOUR, after=("acme",), page_size=1) == found[1:]
        with pytest.raises(SetupError):
            reads.current("acme", "order-1")
    for table in (*TABLES, "reader_tenants", "lanes"):
        with (
            psycopg.connect(world.settings.scheduler()) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(f"select * from os_core.{table}".encode())


def test_db01_a_column_of_a_later_release_disturbs_no_read_of_this_one_and_no_worker(world: World) -> None:
    """A migration adds columns, and programs of the release before it continue."""
    before = {read: repr(ask(world.reads)) for read, ask in READS.items() if "pending" not in read}
    tables = [*TABLES, "lanes", "lane_stops", "work_order_topics", "registered_schemas", "migrations"]
    try:
        for table in tables:
            world.admin.execute(f"alter table os_core.{table} add column later text not null default 'new'".encode())
        for read, answer in before.items():
            assert repr(READS[read](world.reads)) == answer, read
        assert world.reads.pending(PendingQuery("acme", "ada", START)).offers
        with world.working():
            assert world.outcome(make("STEP_FINISHED", tenant_id="later", step_id="step-3")) == Accepted()
            assert world.reads.work_order("later", "order-1") is not None
        assert world.verify().differences == []
    finally:
        for table in tables:
            world.admin.execute(f"alter table os_core.{table} drop column if exists later".encode())
