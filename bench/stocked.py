"""Tables that are already large: SQL inserts the rows that another topic's ledger would have left.

They are of the same 50 tenants, so that the events that are folded next lie among them, in indexes with pages 70 % full, as
random inserts leave them. Their ids are in a lane that this topic does not have, so they do not affect its positions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, LiteralString

import psycopg
from psycopg.conninfo import make_conninfo

from bench import events
from core_tables.projection.postgres.connection import connect
from core_tables.projection.postgres.migrate import migrate
from core_tables.settings.environment import Settings

LANE: Final = 1024  # of the inserted rows
LIFE: Final = len(events.LIFE)
LIST: Final = 10  # open work orders of a requester
ONE_IN: Final = 2  # one in two work orders of a history is open, so that even the smallest has full lists

# Work order n is the k-th of tenant t. All those of a tenant come together, which fills the heap fastest.
_CURRENT: Final[LiteralString] = """
insert into os_core.work_orders_current (
    tenant_id, work_order_id, correlation_id, turn_id, work_order_status, last_event_id, last_reason_code,
    last_updated_at, requester_user_id, requester_speaker_id, device_id, session_id, process_id, blueprint_version,
    intent_type, fields_json, missing_fields_json, asked_fields_json, resolved_fields_json, prompt_dedupe_keys_json,
    external_approval_pending, created_at, closed_at
)
select
    'tenant-' || t, 'order-' || n || '-0x', 100000000000::numeric + n, 1 + step,
    case when step = 0 then 'DRAFT' else 'DONE' end, (%(lane)s::bigint << 42) + n * %(life)s + step + 1, 1000 + step,
    %(at)s + n, 'requester-x' || k / (%(list)s * %(one_in)s), 'speaker-4', 'phone-9', 'session-3141', 'booking',
    '2026.1', 'BOOK_TRIP', '{"city": "Lisbon", "date": "2026-12-24", "party": 4}', '["date", "party"]', '["date"]',
    '[]', '["ask-date-1"]', false, %(at)s + n, case when step = 0 then null else %(at)s + n end
from (
    select t, k, k * %(tenants)s + t as n, case when mod(k, %(one_in)s) = 0 then 0 else %(life)s - 1 end as step
    from generate_series(0, %(tenants)s - 1) as t, generate_series(0::bigint, %(orders)s / %(tenants)s - 1) as k
) as orders
"""
_LEDGER: Final[LiteralString] = """
insert into os_core.work_order_ledger (
    tenant_id, work_order_event_id, schema_version, created_at, work_order_id, correlation_id, turn_id, event_type,
    work_order_status, reason_code, idempotency_key, payload
)
select
    'tenant-' || t, (%(lane)s::bigint << 42) + n * %(life)s + step + 1, 1, %(at)s + n, 'order-' || n || '-0x',
    100000000000::numeric + n, 1 + step, case when step = 0 then 'WORK_ORDER_CREATED' else 'FIELD_SET' end,
    case when step = 0 then 'DRAFT' else 'CLARIFY' end, 1000 + step, 'order-' || n || '-0x:' || step,
    '{"field": "date", "value": "2026-12-24", "requester_user_id": "requester-17"}'
from (
    select t, k * %(tenants)s + t as n
    from generate_series(0, %(tenants)s - 1) as t, generate_series(0::bigint, %(orders)s / %(tenants)s - 1) as k
) as orders, generate_series(0, %(life)s - 1) as step
"""
_ATTEMPTS: Final[LiteralString] = """
insert into os_core.work_order_step_attempts (
    tenant_id, work_order_id, step_id, attempt_index, status, timeout_ms, max_retries, retry_backoff_ms, started_at,
    finished_at, reason_code
)
select tenant_id, work_order_id, 'reserve-seats', 0, 'SUCCEEDED', 30000, 3, 500, created_at, created_at, 1007
from os_core.work_orders_current
"""
_LEASES: Final[LiteralString] = """
insert into os_core.work_order_leases (
    tenant_id, work_order_id, granted_event_id, lease_state, lease_owner_id, lease_token_hash, acquired_at,
    lease_expires_at, released_at
)
select
    tenant_id, work_order_id, last_event_id, 'RELEASED', 'orchestrator-2', 'e3b0c44298fc1c149afbf4c8996fb924',
    created_at, created_at, created_at
from os_core.work_orders_current
"""
_CURRENT_TABLE: Final = "work_orders_current"
_TABLES: Final = ("work_order_ledger", _CURRENT_TABLE, "work_order_step_attempts", "work_order_leases")


def open_orders(settings: Settings, count: int) -> None:
    """Insert `count` open work orders, ten to a requester, into the current table only."""
    fill(settings, {"orders": count, "one_in": 1}, (_CURRENT,), (_CURRENT_TABLE,))


def history(settings: Settings, ledger_rows: int) -> None:
    """Insert `ledger_rows` events into the tables, ten to a work order; every second work order is open."""
    statements = (_LEDGER, _CURRENT, _ATTEMPTS, _LEASES)
    fill(settings, {"orders": ledger_rows // LIFE, "one_in": ONE_IN}, statements)


def template(settings: Settings, name: str, insert: Callable[[Settings], None]) -> None:
    """Create a database with what `insert` inserts, but no topic; runs start from copies of it (`place.tables`)."""
    with psycopg.connect(settings.admin(), autocommit=True) as admin:
        admin.execute(f'drop database if exists "{name}"'.encode())
        admin.execute(f'create database "{name}"'.encode())
    made = settings.model_copy(update={"postgres_dsn": make_conninfo(settings.admin(), dbname=name)})
    connection = connect(made.admin(), name="benchmark")
    migrate(connection)
    connection.close()
    insert(made)


def requester(number: int, orders: int, one_in: int) -> tuple[str, str]:
    """Tenant and name of a requester with ten open work orders, of `orders` that were inserted."""
    lists = max(1, orders // (events.TENANTS * LIST * one_in))
    return f"tenant-{number % events.TENANTS}", f"requester-x{number // events.TENANTS % lists}"


def order(number: int) -> tuple[str, str]:
    """Tenant and id of an inserted work order."""
    return f"tenant-{number % events.TENANTS}", f"order-{number}-0x"


def fill(
    settings: Settings,
    sizes: Mapping[str, int | str],
    statements: Sequence[LiteralString],
    tables: Sequence[str] = _TABLES,
) -> None:
    """Run statements that insert many rows into tables; `sizes` are parameters of theirs."""
    given = {"tenants": events.TENANTS, "lane": LANE, "life": LIFE, "list": LIST, "at": events.START, **sizes}
    with psycopg.connect(settings.admin(), autocommit=True) as admin:
        admin.execute("set maintenance_work_mem = '512MB'")
        admin.execute("set synchronous_commit = off")
        with _without_indexes(admin, tables):
            for statement in statements:
                psycopg.ClientCursor(admin).execute(statement, given)
        for table in tables:
            admin.execute(f"vacuum (analyze, freeze) os_core.{table}".encode())
        admin.execute("checkpoint")


@contextmanager
def _without_indexes(admin: "psycopg.Connection[Any]", tables: Sequence[str]) -> Iterator[None]:
    """Keep the indexes from being filled row by row; build them once, at the end, with pages 70 % full."""
    names = [f"os_core.{table}" for table in tables]
    rows = admin.execute(
        "select indexrelid::regclass::text from pg_index where indrelid = any(%s::regclass[])", [names]
    )
    indexes = [row[0] for row in rows.fetchall()]
    for index in indexes:
        admin.execute(f"alter index {index} set (fillfactor = 70)".encode())
    # An index that is not ready gets no rows; `reindex` fills it and makes it ready.
    admin.execute("update pg_index set indisready = false where indrelid = any(%s::regclass[])", [names])
    yield
    for name in names:
        admin.execute(f"reindex table {name}".encode())
    for index in indexes:
        admin.execute(f"alter index {index} reset (fillfactor)".encode())
