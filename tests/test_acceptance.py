"""The acceptance tests that Selene OS names, on the real parts (AT-OS-CORE-DB-01 and -02 are in test_isolation.py)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from core_tables.cli import wiring
from core_tables.producer import Receipt
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.connection import connect
from core_tables.projection.verify import repair
from core_tables.projection.verify.report import Report, Scope
from core_tables.schemas import events
from core_tables.schemas.outcomes import Accepted, Replayed

from .builders import START, day, make
from .world import RunningWorker, World, wait_until

pytestmark = pytest.mark.stack

TABLES = ("work_orders_current", "work_order_step_attempts", "work_order_leases")


@pytest.fixture(scope="module", autouse=True)
def running(world: World) -> Iterator[RunningWorker]:
    with world.working() as worker:
        yield worker
    assert worker.errors == []


def rebuild(world: World, scope: Scope = Scope()) -> Report:  # noqa: B008 - a tuple
    connection = connect(world.settings.worker(), name="test rebuild")
    try:
        return repair.rebuild(connection, scope, cache=wiring.cache(world.settings, connection))
    finally:
        connection.close()


def test_at_os_core_db_03_idempotency_dedupe_works(world: World) -> None:
    """Callers who race with one key are settled by their order in the log: one is accepted, all others learn its id."""
    event = make("WORK_ORDER_CREATED", tenant_id="race", idempotency_key="once")
    with ThreadPoolExecutor(16) as pool:
        receipts: list[Receipt] = list(pool.map(lambda _: world.ledger.append(event), range(64)))
    outcomes = {receipt.event_id(): receipt.outcome(30) for receipt in receipts}
    first = min(outcomes)
    assert outcomes.pop(first) == Accepted()
    assert set(outcomes.values()) == {Replayed(first, request_differs=False)}
    assert [entry.work_order_event_id for entry in world.reads.ledger("race")] == [first]


def test_at_os_core_db_04_current_is_rebuilt_from_the_ledger(world: World) -> None:
    world.append(*day(2000, tenants=6))
    world.drain()
    before = {table: world.rows(table) for table in TABLES}
    assert all(before.values())
    for table in TABLES:
        world.admin.execute(f"delete from os_core.{table}".encode())
    assert world.verify().differences
    report = rebuild(world)
    assert report.repaired == report.compared > 0
    assert {table: world.rows(table) for table in TABLES} == before
    again = rebuild(world)
    assert (again.repaired, again.equal) == (0, again.compared)
    assert world.verify().differences == []


def test_a_rebuild_of_one_work_order_or_one_tenant_leaves_the_others(world: World) -> None:
    for tenant in ("scope-1", "scope-2"):
        for order in ("o1", "o2"):
            world.append(make("WORK_ORDER_CREATED", tenant_id=tenant, work_order_id=order))
    world.drain()
    world.admin.execute("update os_core.work_orders_current set turn_id = 50 where tenant_id like 'scope-%'")
    assert rebuild(world, Scope("scope-1", "o1"))[:3] == (1, 0, 1)
    assert rebuild(world, Scope("scope-1"))[:3] == (2, 1, 1)
    assert rebuild(world, Scope("scope-2"))[:3] == (2, 0, 2)


def test_a_worker_drops_its_memory_after_a_repair(world: World, running: RunningWorker) -> None:
    """Without the epoch it would write from states that the repair replaced."""
    assert world.outcome(make("WORK_ORDER_CREATED", tenant_id="repair")) == Accepted()
    lane = running.worker.lanes[world.reads.lane_of_tenant("repair")]
    epoch = lane.epoch
    world.admin.execute(
        "update os_core.work_orders_current set confirmation_state = 'EXPIRED' where tenant_id = 'repair'"
    )
    assert rebuild(world, Scope("repair")).repaired == 1
    assert world.outcome(make("FIELD_SET", tenant_id="repair")) == Accepted()
    wait_until(lambda: lane.epoch == epoch + 1, "the worker to see the epoch")
    world.drain()
    assert world.verify().differences == []


def test_a_row_that_no_event_explains_is_found_and_taken_away(world: World) -> None:
    assert world.outcome(make("WORK_ORDER_CREATED", tenant_id="extra")) == Accepted()
    columns = "tenant_id, work_order_id, step_id, attempt_index, status, reason_code"
    world.admin.execute(
        f"insert into os_core.work_order_step_attempts ({columns}) values ('extra', 'ghost', 's', 0, 'RUNNING', 1)".encode()
    )
    world.drain()
    (found,) = world.verify().differences
    assert (found.work_order_id, found.what) == ("ghost", "row that no event explains")
    assert rebuild(world).repaired == 1
    assert world.verify().differences == []


def test_at_os_20_never_ask_twice(world: World) -> None:
    """What was asked is in the record for every reader, after a rebuild too; only an explicit correction frees it."""
    ask = make("FIELD_ASKED", tenant_id="ask", idempotency_key="ask-1")
    assert world.outcome(make("WORK_ORDER_CREATED", tenant_id="ask")) == Accepted()
    assert world.outcome(ask) == Accepted()
    assert isinstance(world.outcome(ask), Replayed), "the same ask sent again is a no-op"
    for _ in range(2):
        current = world.reads.current("ask", "order-1")
        assert current is not None
        assert current.prompt_dedupe_keys_json == ("prompt-1",)
        assert current.asked_fields_json["date"]["attempts"] == 1
        rebuild(world, Scope("ask"))
    correction = make("FIELD_SET", tenant_id="ask", payload=events.FieldSet("date", "x", ["prompt-1"]))
    assert world.outcome(correction) == Accepted()
    current = world.reads.current("ask", "order-1")
    assert current is not None
    assert current.prompt_dedupe_keys_json == ()


def test_at_os_21_external_approval_wait_does_not_repeat(world: World) -> None:
    request = make(
        "EXTERNAL_APPROVAL_REQUESTED", tenant_id="wait", idempotency_key="request-1", work_order_status="CONFIRM"
    )
    assert world.outcome(make("WORK_ORDER_CREATED", tenant_id="wait")) == Accepted()
    (first,) = world.append(request)
    assert world.outcome(request) == Replayed(first.event_id(), request_differs=False), "asking again asks nobody"
    assert world.outcome(make("FIELD_SET", tenant_id="wait", work_order_status="CONFIRM")) == Accepted()
    current = world.reads.current("wait", "order-1")
    assert current is not None
    assert current.external_approval_pending, "other events leave the wait as it is"
    (offer,) = world.reads.pending(PendingQuery("wait", "ada", START)).offers
    assert offer.external_approval_pending
    assert (
        world.outcome(make("EXTERNAL_APPROVAL_RESOLVED", tenant_id="wait", work_order_status="CONFIRM")) == Accepted()
    )
    assert isinstance(world.outcome(request), Replayed), "nor does it wait again once it was answered"
    current = world.reads.current("wait", "order-1")
    assert current is not None
    assert not current.external_approval_pending


def test_at_os_23_prompt_dedupe_is_global(world: World) -> None:
    """The keys belong to the work order: not to a session, a device, a step, a turn or a status."""
    assert world.outcome(make("WORK_ORDER_CREATED", tenant_id="global")) == Accepted()
    for turn, (status, step, key) in enumerate(
        (("DRAFT", None, "p1"), ("CLARIFY", "step-1", "p2"), ("EXECUTING", "step-2", "p1"), ("CONFIRM", None, "p3")),
        start=2,
    ):
        asked = events.FieldAsked(f"field-{turn}", key)
        event = make(
            "FIELD_ASKED", tenant_id="global", turn_id=turn, work_order_status=status, step_id=step, payload=asked
        )
        assert world.outcome(event) == Accepted()
    current = world.reads.current("global", "order-1")
    assert current is not None
    assert current.prompt_dedupe_keys_json == ("p1", "p2", "p3")
    by_thread = world.reads.current_by_correlation("global", current.correlation_id)
    assert by_thread == current, "another session finds the same keys by the thread"


def test_a_sample_finds_drift_and_reports_it_as_a_number(world: World) -> None:
    import json

    assert world.outcome(make("WORK_ORDER_CREATED", tenant_id="drift")) == Accepted()
    world.admin.execute("analyze os_core.work_orders_current")
    clean = world.command("verify", "--sample", "100000", "--json")
    assert (clean.returncode, json.loads(clean.stdout)["drift"]) == (0, 0)
    world.admin.execute("update os_core.work_orders_current set turn_id = 88 where tenant_id = 'drift'")
    found = world.command("verify", "--sample", "100000", "--json")
    assert (found.returncode, json.loads(found.stdout)["drift"]) == (11, 1)
    assert rebuild(world, Scope("drift")).repaired == 1
