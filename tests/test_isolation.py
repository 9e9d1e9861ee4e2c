"""AT-OS-CORE-DB-01 and -02: a session sees one tenant, whatever it asks; nobody changes what was appended."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas import events
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import APPEND_ONLY_VIOLATION, ContractError, CoreTablesError
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


@pytest.fixture(scope="module", autouse=True)
def _two_tenants(world: World) -> Iterator[None]:
    """Two tenants with the same work order id, each with a row in every table."""
    with world.working():
        for tenant in ("acme", "globex"):
            payload = events.WorkOrderCreated("ada", intent_type=tenant)
            world.append(make("WORK_ORDER_CREATED", tenant_id=tenant, payload=payload))
            world.append(
                make("STEP_STARTED", tenant_id=tenant, step_id="step-2"),
                make("STEP_RETRY_SCHEDULED", tenant_id=tenant),
                make("FIELD_SET", tenant_id=tenant, expected_last_event_id=1),
            )
            assert world.outcome(make("LEASE_ACQUIRED", tenant_id=tenant)) == Accepted()
        yield


READS: dict[str, Callable[[Reads], object]] = {
    "current": lambda reads: reads.current("acme", "order-1"),
    "current by correlation": lambda reads: reads.current_by_correlation("acme", make("FIELD_SET").correlation_id),
    "ledger": lambda reads: reads.ledger("acme"),
    "ledger of a work order": lambda reads: reads.ledger("acme", "order-1"),
    "record at an event id": lambda reads: reads.current_at("acme", "order-1", MAX_I64),
    "attempts": lambda reads: reads.attempts("acme", "order-1"),
    "lease": lambda reads: reads.active_lease("acme", "order-1", START),
    "due retries": lambda reads: reads.due_retries("acme", START + 2 * HOUR),
    "timed-out steps": lambda reads: reads.timed_out_steps("acme", START + 2 * HOUR),
    "expired leases": lambda reads: reads.expired_leases("acme", START + 2 * HOUR),
    "refused": lambda reads: reads.refused("acme"),
    "pending from Postgres": lambda reads: reads.pending(PendingQuery("acme", "ada", START)),
    "pending from the cache": lambda reads: reads.pending(PendingQuery("acme", "ada", START)),
}


# Reads that are of no tenant, and what is no read.
OF_NO_TENANT = {"until", "close", "topics", "lane_of_tenant", "applied_of", "registered_fingerprints"}
# These are asked about in tests of their own below.
ASKED_BELOW = {"outcome", "outcomes", "outcomes_of"}


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
    (row,) = world.admin.execute(
        "select event_id from os_core.work_order_outcomes where tenant_id = 'globex'"
    ).fetchall()
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
    for role in ("core_tables_worker", "core_tables_owner", "core_tables_operator", "postgres"):
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
    assert found == [(table, "r", True, 3) for table in sorted(TABLES)], "views would need security_invoker"


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
        assert [offer.record.correlation_id for offer in answer.offers] == [
            str(make("FIELD_SET", tenant_id="t").correlation_id)
        ]


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
