"""The plans of statements: what worker and reads take from an index stays what they ask for, while the tables grow."""

import math
from contextlib import closing

import pytest

from core_tables.deploy.stack import StackAddresses
from core_tables.projection.postgres.connection import IN_ORDER, connect
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.postgres.statements import sql

from .builders import make
from .world import World, new_world, wait_until

pytestmark = pytest.mark.stack

WORK_ORDERS = 2000


@pytest.mark.parametrize("batch_size", [8, 100])
def test_a_worker_that_began_on_empty_tables_reads_only_what_its_keys_name(
    stack: StackAddresses, batch_size: int
) -> None:
    """All are of one tenant: an index that is asked for the tenant alone gives all of them for each."""
    with closing(new_world(stack)) as empty, empty.working(batch_size=batch_size):
        read_before = read_while_creating(empty, 0, WORK_ORDERS)
        read_after = read_while_creating(empty, WORK_ORDERS, 2 * WORK_ORDERS)
    for index, entries in read_after.items():
        assert entries - read_before[index] < 20 * WORK_ORDERS, f"{index}: {entries} entries were read"


def test_reads_over_a_connection_from_before_read_only_what_they_are_asked_for(world: World) -> None:
    dsn = world.settings.reader()
    pool = ReadPool.connect(dsn, "test reads")
    # Outcomes are read all the time, so no plan of theirs may be bad even for a moment: these are never dropped.
    keeping = ReadPool(lambda: connect(dsn, name="test reads", plans=IN_ORDER), plan_pause_s=math.inf)
    reads, kept = Reads(pool), Reads(keeping)
    for _ in range(10):  # from the sixth time on, a plan is kept
        assert kept.outcomes("bells", [1]) == {}
        assert reads.current("bells", "order-0") is None
    with world.working():
        names = [f"order-{number}" for number in range(WORK_ORDERS)]
        receipts = world.append(*(make("WORK_ORDER_CREATED", tenant_id="bells", work_order_id=name) for name in names))
        world.drain()
    ids = [receipt.event_id() for receipt in receipts]
    before = entries_read(world)
    assert len(kept.outcomes("bells", ids)) == WORK_ORDERS

    wait_until(lambda: reads.current("bells", "order-0") and pool.plans_dropped, "plans to be made from scratch")
    looked = sum(reads.current("bells", name) is not None for name in names)
    assert looked == WORK_ORDERS
    for each in (reads, kept):
        each.close()  # the server counts what a session read when it ends
    wait_until(
        lambda: entries_read(world)[OUTCOMES] - before[OUTCOMES] >= WORK_ORDERS, "the statistics of what was read"
    )
    for index, entries in entries_read(world).items():
        assert entries - before[index] < 20 * WORK_ORDERS, f"{index}: {entries - before[index]} entries were read"


def test_a_transaction_of_a_pooled_session_plans_as_a_session_of_ours(world: World) -> None:
    planned = "select name, setting from pg_settings where name like 'enable_%' and setting != boot_val order by name"
    with closing(connect(world.settings.reader(), name="test reads", plans=IN_ORDER)) as session:
        expected = session.execute(planned).fetchall()
    with closing(connect(world.settings.reader(), name="test pooled")) as session, session.transaction():
        session.execute(sql("set_pooled_session"))
        assert session.execute(planned).fetchall() == expected
        assert len(expected) == 6


def entries_read(world: World) -> dict[str, int]:
    """By index, how many of its entries were read so far."""
    return dict(world.admin.execute(READ).fetchall())


def read_while_creating(world: World, start: int, end: int) -> dict[str, int]:
    """By index, how many entries were read of it until the work orders of a range were created, leased and moved."""
    names = [f"order-{number}" for number in range(start, end)]
    for event_type in ("WORK_ORDER_CREATED", "LEASE_ACQUIRED", "STATUS_CHANGED"):
        world.append(*(make(event_type, work_order_id=name) for name in names))
    world.drain()
    # Statistics come a moment later.
    wait_until(lambda: world.admin.execute(INSERTED).fetchone() == (end,), "the statistics of what was folded")
    return entries_read(world)


OUTCOMES = "work_order_ledger_pkey"
INSERTED = "select n_tup_ins from pg_stat_user_tables where relname = 'work_order_leases'"
READ = """
    select indexrelname, idx_tup_read from pg_stat_user_indexes
    where schemaname = 'os_core' and relname like 'work_order%'
"""
