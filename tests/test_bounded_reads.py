"""No read looks at more rows than it returns, and one for the cursor, however many lie next to them, whatever the planner knows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
import pytest
from msgspec import Struct
from msgspec.json import encode
from psycopg.sql import SQL, Composable, Literal

from core_tables.cli import wiring
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres import statements
from core_tables.projection.postgres.connection import IN_ORDER, PROBES, connect
from core_tables.projection.postgres.keys import AttemptName, Correlation, IdempotencyKey, RecordName, WorkOrderName
from core_tables.projection.postgres.pipeline import Pipeline
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.postgres.statements import sql

from .builders import START
from .test_isolation import OF_NO_TENANT
from .world import World, wait_until

pytestmark = pytest.mark.stack

PAGE: Final = 2
NOW: Final = 1_000
LATER: Final = 10**15  # when nothing that is asked for is due, and after everything that is asked for
# Of `want` work orders, with their rows in all tables; then a number of others, none of which any read asks for.
WANTED: Final[LiteralString] = """
insert into os_core.work_orders_current (
    tenant_id, work_order_id, correlation_id, turn_id, work_order_status, last_event_id, last_reason_code, last_updated_at,
    requester_user_id, fields_json, missing_fields_json, asked_fields_json, resolved_fields_json, prompt_dedupe_keys_json,
    external_approval_pending, external_approval_target_user_id, external_approval_expires_at, created_at
)
select 'big', 'want-' || n, n, 1, 'CONFIRM', n, 1, %(start)s, 'ada', '{}', '[]', '{}', '{}', '[]', true, 'boss', n, n
from generate_series(1, 5) as n;
insert into os_core.work_order_step_attempts (
    tenant_id, work_order_id, step_id, attempt_index, status, timeout_ms, next_retry_at, started_at, reason_code, due_at
)
select 'big', 'want-' || n, status || k, 0, status, 0, n, n, 1, n
from generate_series(1, 5) as n, unnest(array['SCHEDULED', 'RUNNING']) as status, generate_series(1, 2) as k;
insert into os_core.work_order_leases (
    tenant_id, work_order_id, granted_event_id, lease_state, lease_owner_id, lease_token_hash, acquired_at, lease_expires_at, due_at
)
select 'big', 'want-' || n, n, 'ACTIVE', 'owner', 'token', 1, n, n from generate_series(1, 5) as n;
insert into os_core.work_order_ledger (
    tenant_id, work_order_event_id, schema_version, created_at, work_order_id, correlation_id, turn_id, event_type,
    status_before, work_order_status, reason_code, idempotency_key, payload
)
select
    'big', 10 * n + k, 1, n, 'want-' || n, n, 1, 'STATUS_CHANGED', case k when 2 then 'CONFIRM' end,
    case k when 2 then 'DONE' else 'CONFIRM' end, 1, 'key-' || k, '{}'
from generate_series(1, 5) as n, generate_series(1, 2) as k;
insert into os_core.work_order_outcomes (
    tenant_id, event_id, work_order_id, correlation_id, event_type, outcome, reason_code, sentence
)
select 'big', 10 * n + k, 'want-' || n, n, 'STATUS_CHANGED', 'REFUSED', 'OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED', 'why'
from generate_series(1, 5) as n, generate_series(3, 5) as k
"""
OTHERS: Final[LiteralString] = """
insert into os_core.work_orders_current (
    tenant_id, work_order_id, correlation_id, turn_id, work_order_status, last_event_id, last_reason_code, last_updated_at,
    requester_user_id, fields_json, missing_fields_json, asked_fields_json, resolved_fields_json, prompt_dedupe_keys_json,
    external_approval_pending, external_approval_target_user_id, external_approval_expires_at, created_at, closed_at
)
select
    'big', 'other-' || n, n, 1, case when closed then 'DONE' else 'EXECUTING' end, n, 1, n, 'bob', '{}', '[]', '{}', '{}',
    '[]', not closed, 'another', %(later)s, 1, case when closed then 1 end
from (select n, mod(n, 2) = 0 as closed from generate_series(%(from)s::bigint, %(to)s) as n) as work_order;
insert into os_core.work_order_step_attempts (
    tenant_id, work_order_id, step_id, attempt_index, status, timeout_ms, next_retry_at, started_at, reason_code, due_at
)
select
    'big', 'other-' || n, 'step', 0, case when mod(n, 4) < 2 then 'SCHEDULED' else 'RUNNING' end, 0, 1, 1, 1,
    case when mod(n, 2) = 1 then %(later)s end
from generate_series(%(from)s::bigint, %(to)s) as n;
insert into os_core.work_order_step_attempts (
    tenant_id, work_order_id, step_id, attempt_index, status, started_at, finished_at, reason_code
)
select 'big', 'long', 'step', n, 'SUCCEEDED', 1, 1, 1
from generate_series(%(from)s::bigint, %(to)s, 20) as n;
insert into os_core.work_order_leases (
    tenant_id, work_order_id, granted_event_id, lease_state, lease_owner_id, lease_token_hash, acquired_at, lease_expires_at, due_at
)
select 'big', 'other-' || n, n, 'ACTIVE', 'owner', 'token', 1, 1, case when mod(n, 2) = 1 then %(later)s end
from generate_series(%(from)s::bigint, %(to)s) as n;
insert into os_core.work_orders_current (
    tenant_id, work_order_id, correlation_id, turn_id, work_order_status, last_event_id, last_reason_code, last_updated_at,
    requester_user_id, fields_json, missing_fields_json, asked_fields_json, resolved_fields_json, prompt_dedupe_keys_json,
    external_approval_pending, created_at
)
select
    'big', 'older-' || n, %(later)s + n, 1, (array['DRAFT', 'CLARIFY', 'CONFIRM'])[1 + mod(n, 3)], n, 1, n, 'ada', '{}', '[]',
    '{}', '{}', '[]', false, n
from generate_series(%(from)s::bigint, %(to)s) as n;
insert into os_core.work_order_ledger (
    tenant_id, work_order_event_id, schema_version, created_at, work_order_id, correlation_id, turn_id, event_type,
    status_before, work_order_status, reason_code, idempotency_key, payload
)
select
    'big', n, 1, %(later)s, case when mod(n, 2) = 0 then 'long' else 'other-' || n end, n, 1, 'STATUS_CHANGED', 'EXECUTING',
    'EXECUTING', 1, 'key-' || n, '{}'
from generate_series(%(from)s::bigint, %(to)s) as n;
insert into os_core.work_order_outcomes (
    tenant_id, event_id, work_order_id, correlation_id, event_type, outcome, reason_code, first_event_id, request_differs
)
select 'big', %(to)s + n, 'other-' || n, n, 'STATUS_CHANGED', 'REPLAYED', 'OS_WORK_ORDER_IDEMPOTENCY_REPLAY', 1, false
from generate_series(%(from)s::bigint, %(to)s) as n
"""
TABLES: Final = (
    "work_order_ledger",
    "work_order_outcomes",
    "work_orders_current",
    "work_order_step_attempts",
    "work_order_leases",
)
FORGET: Final[LiteralString] = """
select pg_clear_attribute_stats(schemaname, tablename, attname, inherited) from pg_stats where schemaname = 'os_core'
"""
ALL_ALIKE: Final[LiteralString] = """
select pg_restore_attribute_stats(
    'schemaname', 'os_core', 'relname', relname::text, 'attname', attname::text, 'inherited', false,
    'null_frac', 0.0::real, 'avg_width', 8, 'n_distinct', 1.0::real
)
from pg_attribute join pg_class on pg_class.oid = attrelid
where relnamespace = 'os_core'::regnamespace and relkind = 'r' and attnum > 0 and not attisdropped
"""
PAGED: dict[str, Callable[[Reads], Any]] = {
    "ledger": lambda reads: reads.ledger("big", page_size=PAGE),
    "ledger of a work order": lambda reads: reads.ledger("big", "long", page_size=PAGE),
    "ledger by creation": lambda reads: reads.ledger_by_creation("big", 2, NOW, page_size=PAGE),
    "records of a correlation": lambda reads: reads.records_of_correlation("big", 1, page_size=PAGE),
    "refused": lambda reads: reads.refused("big", page_size=PAGE),
    "attempts": lambda reads: reads.attempts("big", "want-1", page_size=PAGE),
    "attempts of a work order that has thousands": lambda reads: reads.attempts("big", "long", page_size=PAGE),
    "by status": lambda reads: reads.current_by_status("big", "CONFIRM", page_size=PAGE),
    "closed": lambda reads: reads.closed_after("big", 12, page_size=PAGE),
    "newest closed": lambda reads: reads.closed_before("big", 52, page_size=PAGE),
    "open of a requester": lambda reads: reads.open_of_requester("big", "ada", page_size=PAGE),
    "due retries": lambda reads: reads.due_retries("big", NOW, page_size=PAGE),
    "timed-out steps": lambda reads: reads.timed_out_steps("big", NOW, page_size=PAGE),
    "expired leases": lambda reads: reads.expired_leases("big", NOW, page_size=PAGE),
    "expired approvals": lambda reads: reads.expired_approvals("big", NOW, page_size=PAGE),
    "awaited approvals": lambda reads: reads.awaited_approvals("big", "boss", page_size=PAGE),
}
# A second page starts at its cursor, and reads nothing of the first.
PAGED |= {
    "second page of the ledger by creation": lambda reads: reads.ledger_by_creation(
        "big", 1, NOW, after=(1, 12), page_size=PAGE
    ),
    "second page of a status": lambda reads: reads.current_by_status(
        "big", "CONFIRM", after=("want-2",), page_size=PAGE
    ),
    "second page of due retries": lambda reads: reads.due_retries(
        "big", NOW, after=(2, "want-2", "SCHEDULED2", 0), page_size=PAGE
    ),
    "second page of expired leases": lambda reads: reads.expired_leases(
        "big", NOW, after=(2, "want-2"), page_size=PAGE
    ),
    "second page of approvals": lambda reads: reads.expired_approvals("big", NOW, after=(2, "want-2"), page_size=PAGE),
}
SINGLE: dict[str, Callable[[Reads], Any]] = {
    "current": lambda reads: reads.current("big", "want-1"),
    "current by correlation": lambda reads: reads.current_by_correlation("big", 1),
    "bound event": lambda reads: reads.bound_event("big", "want-1", "key-1"),
    "bound event of a work order with thousands": lambda reads: reads.bound_event("big", "long", "key-1000"),
    "active lease": lambda reads: reads.active_lease("big", "want-1", 0),
    "last lease": lambda reads: reads.last_lease("big", "want-1"),
    "outcome of an event": lambda reads: reads.outcome("big", 11),
    "outcome of a refusal": lambda reads: reads.outcomes("big", [13]),
}
# What these return is one value, made of as many rows.
MADE_OF: dict[str, tuple[int, Callable[[Reads], Any]]] = {
    "work order": (4, lambda reads: reads.work_order("big", "want-1")),
    "record at an event": (2, lambda reads: reads.current_at("big", "want-1", 12)),
    "pending": (5, lambda reads: reads.pending(PendingQuery("big", "ada", START))),
    "pending of a long list": (PAGE, lambda reads: reads.pending(PendingQuery("big", "ada", START, top_n=PAGE))),
    "pending of a status and any age": (
        PAGE,
        lambda reads: reads.pending(
            PendingQuery("big", "ada", START, frozenset({"CLARIFY"}), recency_window=START, top_n=PAGE)
        ),
    ),
}
READS: dict[str, tuple[int, Callable[[Reads], Any]]] = {
    **{name: (PAGE, read) for name, read in PAGED.items()},
    **{name: (1, read) for name, read in SINGLE.items()},
    **MADE_OF,
}
# Statements that insert, that are about all rows of a table or some at random, or that ask no table with many rows.
NOT_BY_KEY: Final = {
    "insert_ledger", "insert_outcomes", "upsert_attempts", "upsert_current", "upsert_leases", "count_records", "load_topics",
    "count_records_between", "count_work_orders_of_tenant", "estimate_work_orders", "sample_work_orders", "insert_topic",
}  # fmt: skip
# Reads of no tenant's rows, and those that another stands for.
NOT_ASKED: Final = OF_NO_TENANT | {"outcomes_of", "due_tenants"}


class Ended(Struct):
    """A work order, and the last event of it."""

    tenant_id: str
    work_order_id: str
    last_event_id: int


_ORDERS: Final = [WorkOrderName("big", f"want-{number}") for number in range(1, 6)]
_EVENTS: Final = [RecordName("big", 10 * number + 1) for number in range(1, 6)]
_OTHERS: Final = [RecordName("big", 10 * number + 3) for number in range(1, 6)]
# Statements that are asked for a batch of keys, and how many rows these have.
BATCHES: Final[dict[str, tuple[Sequence[Struct], int]]] = {
    "load_current": (_ORDERS, 5),
    "load_active_leases": (_ORDERS, 5),
    "load_open_attempts": (_ORDERS, 20),
    "load_attempts": ([AttemptName("big", "want-1", f"SCHEDULED{number}", 0) for number in (1, 2)], 2),
    "find_first_events": ([IdempotencyKey("big", "want-1", "key-1"), IdempotencyKey("big", "long", "key-1000")], 2),
    "find_correlation_owners": ([Correlation("big", str(number)) for number in range(1, 6)], 5),
    "recall_accepted": (_EVENTS, 5),
    "recall_outcomes": (_OTHERS, 5),
}
# Of work orders that are there, for `update_current` with an event that is not newer, and of one that is not.
CHANGES: Final[dict[str, tuple[Sequence[Struct], int]]] = {
    "update_current": ([Ended(*order.key, 0) for order in _ORDERS], 5),
    "delete_work_orders_current": ([WorkOrderName("big", "none")], 0),
    "delete_work_order_step_attempts": ([WorkOrderName("big", "none")], 0),
    "delete_work_order_leases": ([WorkOrderName("big", "none")], 0),
}
PARTS_OF_VERIFY: Final[dict[str, tuple[tuple[Any, ...], int]]] = {
    "load_ledger": ((_ORDERS,), 10),
    "load_current": ((_ORDERS,), 5),
    "load_all_attempts": ((_ORDERS,), 20),
    "load_all_leases": ((_ORDERS,), 5),
    "load_ledger_records": ((_EVENTS,), 5),
    "load_outcome_records": ((_OTHERS,), 5),
    "list_work_orders": (("big", "want-1", 2) * 4 + (2,), 20),
    "list_work_orders_of_tenant": (("big", "want-1", 2) * 4 + (2,), 20),
    "read_ledger": (("big", 22, 0, 2), 2),
}


@pytest.fixture(
    scope="module",
    params=[(1_000, "current"), (100_000, "current"), (100_000, "of a large work order"), (100_000, "none")],
    ids=["1,000 others", "100,000 others", "statistics of a large work order", "no statistics"],
)
def asked(world: World, request: pytest.FixtureRequest) -> Iterator[tuple[Reads, "psycopg.Connection[Any]"]]:
    """Reads without a cache, over a session that explains, with that many other rows in each table.

    Statistics are those of the last ANALYZE. There may have been none since a restore, or one large work order may have had nearly
    all rows then, so that no column distinguished one from another.
    """
    others, statistics = request.param
    if not world.rows("work_orders_current"):
        _insert(world, WANTED, start=START)
    first = 1_000 + len(world.rows("work_order_leases")) - 5
    if first < 1_000 + others:
        _insert(world, OTHERS, **{"from": first, "to": 999 + others, "later": LATER})
    for table in TABLES:
        world.admin.execute(f"alter table os_core.{table} set (autovacuum_enabled = false)".encode())
        world.admin.execute(f"analyze os_core.{table}".encode())
    if statistics != "current":
        world.admin.execute(FORGET)
    if statistics == "of a large work order":
        world.admin.execute(ALL_ALIKE)
    session = connect(world.settings.reader(), name="test explains", plans=IN_ORDER)
    with closing(session):
        yield world.reads, session


def _insert(world: World, statements: LiteralString, **values: int) -> None:
    cursor = psycopg.ClientCursor(world.admin)
    cursor.execute(statements, values)


@pytest.mark.parametrize("read", READS)
def test_a_read_looks_at_no_more_rows_than_it_returns(
    asked: tuple[Reads, "psycopg.Connection[Any]"], read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, session = asked
    rows, ask = READS[read]
    statements = _statements_of(lambda: ask(reads), monkeypatch)
    for statement, parameters in statements:
        plan = _explained(session, statement, parameters)
        for scan in _scans(plan):
            assert scan["read"] <= rows + 1, (statement, scan)
        asked_for_tenant = list(_init_plans(plan))
        assert asked_for_tenant, "the policies ask which tenant the login may read"
        assert max(asked_for_tenant) <= 1, f"{statement} asks that more than once"


@pytest.mark.parametrize("read", [name for name in PAGED if "page" not in name])
def test_there_is_more_than_a_page_of_what_is_asked_for(asked: tuple[Reads, Any], read: str) -> None:
    """Else it would show nothing that the page is all that is read."""
    reads, _ = asked
    assert len(PAGED[read](reads)) == PAGE


def test_no_read_is_left_out_here() -> None:
    called = {name for _, ask in READS.values() for name in ask.__code__.co_names}
    assert {name for name in dir(Reads) if not name.startswith("_")} - NOT_ASKED - called == set()


def test_no_statement_is_left_out_here() -> None:
    folder = Path(statements.__file__).parent / "sql"
    about_rows = {file.stem for file in folder.glob("*.sql") if "os_core.work_order" in file.read_text("utf-8")}
    reads = {name for name in about_rows if name.startswith("read_")}
    assert about_rows - reads - BATCHES.keys() - CHANGES.keys() - PARTS_OF_VERIFY.keys() == NOT_BY_KEY


@pytest.mark.usefixtures("asked")
def test_a_scheduler_reads_a_few_entries_of_each_tenant(world: World) -> None:
    """The function does not show its plan, so the server's counters say what it read."""
    before = _entries_read(world)
    with closing(wiring.scheduler_reads(world.settings)) as reads:
        assert [tuple(tenant) for tenant in reads.due_tenants(3)] == [("big", 6, 6, 3, 3)]
    wait_until(lambda: _entries_read(world) > before, "the counters of what was read")
    assert _entries_read(world) - before < 40


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("statement", [*BATCHES, *CHANGES])
def test_a_batch_looks_only_at_the_rows_that_its_keys_name(world: World, statement: str) -> None:
    keys, rows = (BATCHES | CHANGES)[statement]
    with closing(connect(world.settings.worker(), name="test explains", plans=PROBES)) as session:
        _looks_at(rows, session, statement, (keys,))


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("statement", PARTS_OF_VERIFY)
def test_a_page_of_verify_looks_only_at_its_rows(world: World, statement: str) -> None:
    parameters, rows = PARTS_OF_VERIFY[statement]
    with closing(wiring.operator(world.settings)) as session:
        _looks_at(rows, session, statement, parameters)


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("statement", ["read_tenants", "read_refusal_counts"])
def test_what_an_operator_counts_is_read_up_to_the_largest_count(world: World, statement: str) -> None:
    with closing(wiring.operator(world.settings)) as session:
        _looks_at(1_000, session, statement, ("", PAGE))


def _looks_at(most: int, session: "psycopg.Connection[Any]", statement: str, parameters: tuple[Any, ...]) -> None:
    """Check that no scan of a statement looks at more rows than that."""
    for scan in _scans(_explained(session, statement, parameters)):
        assert scan["read"] <= most, (statement, scan)


def _entries_read(world: World) -> int:
    (row,) = world.admin.execute(
        "select sum(idx_tup_read)::bigint from pg_stat_user_indexes where schemaname = 'os_core'"
    ).fetchall()
    return int(row[0])


def _statements_of(ask: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...]]]:
    """The statements of a read that see rows of a tenant, each with its parameters."""
    found: list[tuple[str, tuple[Any, ...]]] = []
    original = Pipeline.fetch

    def fetch(self: Pipeline, kind: type[Any], statement: str, *parameters: Any) -> Any:
        found.append((statement, parameters))
        return original(self, kind, statement, *parameters)

    monkeypatch.setattr(Pipeline, "fetch", fetch)
    assert ask(), "there is something to read"
    return [(statement, parameters) for statement, parameters in found if statement.startswith("read_")]


def _explained(session: "psycopg.Connection[Any]", statement: str, parameters: tuple[Any, ...]) -> dict[str, Any]:
    """What Postgres did for a statement, with a plan for any parameters, as reads have it."""
    types = ", ".join({str: "text", int: "bigint"}.get(type(value), "jsonb") for value in parameters)
    text = sql(statement)
    for number in range(1, len(parameters) + 1):
        text = text.replace("%b", f"${number}", 1)
    with session.transaction():
        session.execute("select set_config('core_tables.tenant_id', 'big', true)")
        session.execute(f"prepare asked ({types}) as {text}".encode())
        values: list[Composable] = [Literal(_plain(value)) for value in parameters]
        explain = SQL("explain (analyze, format json) execute asked ({})").format(SQL(", ").join(values))
        (row,) = psycopg.ClientCursor(session).execute(explain).fetchall()
        session.execute("deallocate asked")
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def _plain(value: Any) -> str | int:
    return value if isinstance(value, str | int) else encode(value).decode()


def _init_plans(node: dict[str, Any]) -> Iterator[int]:
    """How often each part of a plan was run that is needed only once a statement."""
    if node.get("Parent Relationship") == "InitPlan":
        yield node["Actual Loops"]
    for inner in node.get("Plans", ()):
        yield from _init_plans(inner)


def _scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The scans of tables and indexes in a plan, each with the number of rows that it looked at."""
    if "Relation Name" in node or "Index Name" in node:
        removed = sum(value for name, value in node.items() if name.startswith("Rows Removed by"))
        read = (node["Actual Rows"] + removed) * node["Actual Loops"]
        yield {"on": node.get("Index Name", node.get("Relation Name")), "read": read, "type": node["Node Type"]}
    for inner in node.get("Plans", ()):
        yield from _scans(inner)
