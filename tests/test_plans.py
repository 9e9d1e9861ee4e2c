"""The plans of the worker's statements: what they read stays in proportion to a batch while the tables grow."""

import pytest

from .builders import make
from .world import World, wait_until

pytestmark = pytest.mark.stack

WORK_ORDERS = 2000


def test_a_worker_that_began_on_empty_tables_reads_only_what_its_keys_name(world: World) -> None:
    """All are of one tenant: an index that is asked for the tenant alone gives all of them for each."""
    with world.working(batch_size=100):
        read_before = read_while_creating(world, 0, WORK_ORDERS)
        read_after = read_while_creating(world, WORK_ORDERS, 2 * WORK_ORDERS)
    for index, entries in read_after.items():
        assert entries - read_before[index] < 20 * WORK_ORDERS, f"{index}: {entries} entries were read"


def read_while_creating(world: World, start: int, end: int) -> dict[str, int]:
    """By index, how many entries were read of it until the work orders of a range were created, leased and moved."""
    names = [f"order-{number}" for number in range(start, end)]
    for event_type in ("WORK_ORDER_CREATED", "LEASE_ACQUIRED", "STATUS_CHANGED"):
        world.append(*(make(event_type, work_order_id=name) for name in names))
    world.drain()
    # Statistics come a moment later.
    wait_until(lambda: world.admin.execute(INSERTED).fetchone() == (end,), "the statistics of what was folded")
    return dict(world.admin.execute(READ).fetchall())


INSERTED = "select n_tup_ins from pg_stat_user_tables where relname = 'work_order_leases'"
READ = """
    select indexrelname, idx_tup_read from pg_stat_user_indexes
    where schemaname = 'os_core' and relname like 'work_order%'
"""
