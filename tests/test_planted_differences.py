"""Every kind of difference, planted by a superuser, and which of the three comparisons finds it.

`verify` folds the ledger table and counts the rows of records; `verify --topic` folds the topic; `verify --sample` folds
some work orders of the ledger table. None sees all of it: the table below says which one sees what.
"""

from contextlib import closing
from typing import Any

import pytest

from core_tables.cli import wiring
from core_tables.cli.ledger_log import verify_against_topic
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.row_types import AttemptRow, CurrentRow, LeaseRow, LedgerRow, OutcomeRow
from core_tables.projection.verify.report import Scope
from core_tables.projection.verify.tables import verify, verify_sample
from core_tables.schemas.outcomes import Accepted, Refused

from .builders import START, make
from .world import World, new_world, wait_until

pytestmark = pytest.mark.stack

LEDGER, OUTCOMES = "os_core.work_order_ledger", "os_core.work_order_outcomes"
CURRENT, ATTEMPTS, LEASES = (
    "os_core.work_orders_current",
    "os_core.work_order_step_attempts",
    "os_core.work_order_leases",
)
# The columns of each table without the generated ones, which cannot be inserted.
ALL = {
    f"os_core.{table}": ", ".join(kind.__struct_fields__)
    for table, kind in {
        "work_order_ledger": LedgerRow,
        "work_order_outcomes": OutcomeRow,
        "work_orders_current": CurrentRow,
        "work_order_step_attempts": AttemptRow,
        "work_order_leases": LeaseRow,
    }.items()
}


def copied(table: str, where: str, **changes: Any) -> str:
    """The statement that adds a row like another one, with changes."""
    changed = ", ".join(f"'{name}', {value}" for name, value in changes.items())
    return (
        f"insert into {table} ({ALL[table]}) select {ALL[table]} from ("
        f"select (jsonb_populate_record(row, jsonb_build_object({changed}))).* from {table} as row where {where}) as made"
    )


# The statement (with ids of the records appended), and what finds it.
PLANTED = {
    "a changed current row": (f"update {CURRENT} set turn_id = 77", "verify sample"),
    "a missing current row": (f"delete from {CURRENT}", "verify sample"),
    "an extra current row": (copied(CURRENT, "true", work_order_id="'ghost'", correlation_id="7"), "verify sample"),
    "a changed attempt": (f"update {ATTEMPTS} set reason_code = 77", "verify sample"),
    "a missing attempt": (f"delete from {ATTEMPTS}", "verify sample"),
    "an extra attempt": (copied(ATTEMPTS, "true", attempt_index="7"), "verify sample"),
    "an extra attempt of no work order": (copied(ATTEMPTS, "true", work_order_id="'ghost'"), "verify"),
    "a changed lease": (f"update {LEASES} set lease_token_hash = 'other'", "verify sample"),
    "a missing lease": (f"delete from {LEASES}", "verify sample"),
    "an extra lease": (
        copied(LEASES, "true", granted_event_id="1", lease_state="'RELEASED'", released_at="1", due_at="null"),
        "verify sample",
    ),
    "a changed ledger row that a table shows": (
        f"update {LEDGER} set turn_id = 77 where work_order_event_id = {{lease}}",
        "verify sample topic",
    ),
    "a changed ledger row that no table shows": (
        f"update {LEDGER} set reason_code = 77 where work_order_event_id = {{created}}",
        "topic",
    ),
    "a missing ledger row": (f"delete from {LEDGER} where work_order_event_id = {{lease}}", "verify sample topic"),
    "an extra ledger row, of a record that was refused": (
        copied(LEDGER, "row.work_order_event_id = {created}", work_order_event_id="{refused}", idempotency_key="null"),
        "verify sample topic",
    ),
    "an extra ledger row, of no record": (
        copied(
            LEDGER, "row.work_order_event_id = {created}", work_order_event_id="{refused} + 9", idempotency_key="null"
        ),
        "verify sample topic",
    ),
    "a changed outcome": (f"update {OUTCOMES} set sentence = 'other'", "topic"),
    "a missing outcome": (f"delete from {OUTCOMES}", "verify topic"),
    "an extra outcome": (copied(OUTCOMES, "true", event_id="{created}"), "verify topic"),
    "an outcome under another record's id": (f"update {OUTCOMES} set event_id = {{created}}", "topic"),
}


@pytest.fixture(scope="module")
def ids(world: World) -> dict[str, int]:
    """The ids of what was appended: a work order with a row in every table. No worker runs; the triggers are off."""
    with world.working():
        receipts = world.append(
            make("WORK_ORDER_CREATED"),
            make("STEP_STARTED", turn_id=2),
            make("LEASE_ACQUIRED", turn_id=3),
            make("FIELD_SET", expected_last_event_id=1),
        )
        assert isinstance(receipts[3].outcome(30), Refused)
        world.drain()
    for table in ALL:
        world.admin.execute(f"create table kept_{table.partition('.')[2]} as table {table}".encode())
    for table in (LEDGER, OUTCOMES):
        world.admin.execute(f"alter table {table} disable trigger append_only".encode())
    return dict(zip(("created", "started", "lease", "refused"), [r.event_id() for r in receipts], strict=True))


def found_by(world: World) -> str:
    """The comparisons that find a difference now."""
    with closing(wiring.operator(world.settings)) as connection:
        reports = {
            "verify": verify(connection, Scope()),
            "sample": verify_sample(connection, 1000),
            "topic": verify_against_topic(world.settings, [connection], lambda _: None),
        }
    return " ".join(name for name, report in reports.items() if report.differences)


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_difference_is_found(world: World, ids: dict[str, int], what: str) -> None:
    statement, finders = PLANTED[what]
    assert world.admin.execute(statement.format(**ids).encode()).rowcount == 1
    try:
        assert found_by(world) == finders
    finally:
        for table, columns in ALL.items():
            kept = f"kept_{table.partition('.')[2]}"
            world.admin.execute(f"delete from {table}".encode())
            world.admin.execute(f"insert into {table} ({columns}) select {columns} from {kept}".encode())
    assert found_by(world) == ""


def test_a_list_of_the_cache_that_is_wrong_is_found(world: World) -> None:
    """And one that is only old says so: it is what was true at its position, until a worker moves or renews its label."""
    fresh, query = new_world(world.stack), PendingQuery("acme", "ada", START)
    with fresh.working():
        assert fresh.outcome(make("WORK_ORDER_CREATED")) == Accepted()
        wait_until(lambda: fresh.reads.pending(query).from_cache, "the cache to answer")
    old = fresh.reads.pending(query)
    cache = wiring.cache(fresh.settings, fresh.store().connection)
    assert cache is not None
    lane = fresh.reads.lane_of_tenant("acme")
    old_records = cache.read(lane, query).records
    assert old_records is not None
    usual = fresh.settings
    fresh.settings = usual.model_copy(update={"redis_url": "none"})
    with fresh.working():
        assert fresh.outcome(make("WORK_ORDER_CREATED", work_order_id="order-2")) == Accepted()
        fresh.drain()
    fresh.settings = usual
    answer = fresh.reads.pending(query)
    assert answer == old or not answer.from_cache
    assert fresh.verify().differences == [], "a list of an older position is not wrong"
    cache._client.set(cache._label(lane), f"0.ab:{old.position + 1}")
    cache.fill(f"0.ab:{old.position + 1}", lane, ("acme", "ada"), old_records)
    assert [found.table for found in fresh.verify().differences] == ["cache"], "old records under the newest label are"
    cache.forget(lane)
    assert fresh.verify().differences == []
    with fresh.working():
        newest = wait_until(
            lambda: (found := fresh.reads.pending(query)).from_cache and found, "the cache to be renewed"
        )
    assert [offer.work_order_id for offer in newest.offers] == ["order-1", "order-2"]
    fresh.close()
