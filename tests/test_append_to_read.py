"""End to end on the real parts: what is appended can be read, a moment later, from every place it belongs."""

import dataclasses
import re
import time
from code import InteractiveConsole
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from core_tables import Ledger, LedgerSettings
from core_tables.deploy import stack as local_stack
from core_tables.deploy.stack import StackAddresses
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.pending_reads import PendingAnswer
from core_tables.schemas import events
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Accepted, Refused, Replayed
from core_tables.schemas.reasons import CANCEL_INVALID_STATE, ContractError, UnavailableError

from .builders import HOUR, START, make
from .world import World, wait_until

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module", autouse=True)
def _worker(world: World) -> Iterator[None]:
    with world.working() as running:
        yield
    assert running.errors == []


def test_a_receipt_holds_the_position_id_of_the_record(world: World) -> None:
    receipt = world.ledger.append(make("WORK_ORDER_CREATED", tenant_id="receipts"))
    partition = partition_of(b"receipts", 12)
    assert receipt.event_id() == event_id_at(partition, 0)
    assert receipt.outcome(30) == Accepted()


def test_an_accepted_event_is_in_ledger_current_and_audit(world: World) -> None:
    event = make("WORK_ORDER_CREATED", tenant_id="reads", idempotency_key="k")
    receipt = world.ledger.append(event)
    assert receipt.outcome(30) == Accepted()
    (entry,) = world.reads.ledger("reads")
    assert entry == (receipt.event_id(), event, None)
    current = world.reads.current("reads", "order-1")
    assert current is not None
    assert current.last_event_id == receipt.event_id()
    assert world.reads.current_by_correlation("reads", event.correlation_id) == current
    world.drain()
    (audit,) = [a for events_ in world.audit_events().values() for a in events_ if a.tenant_id == "reads"]
    assert (audit.event_id, audit.outcome, audit.work_order_event_id) == (
        receipt.event_id(),
        "ACCEPTED",
        receipt.event_id(),
    )
    assert (audit.engine, audit.severity, audit.correlation_id) == (
        "SELENE_OS_CORE_TABLES",
        "INFO",
        event.correlation_id,
    )


def test_a_replayed_append_returns_the_first_event_id(world: World) -> None:
    event = make("WORK_ORDER_CREATED", tenant_id="replays", idempotency_key="k")
    (first,) = world.append(event)
    assert world.outcome(event) == Replayed(first.event_id(), request_differs=False)
    other = replace(event, payload=events.WorkOrderCreated("bob"))
    assert world.outcome(other) == Replayed(first.event_id(), request_differs=True)
    assert len(world.reads.ledger("replays")) == 1


def test_a_refused_append_says_code_field_and_sentence(world: World) -> None:
    outcome = world.outcome(make("FIELD_SET", tenant_id="refusals", expected_last_event_id=7))
    assert isinstance(outcome, Refused)
    assert outcome.field == "expected_last_event_id"
    (refused,) = world.reads.refused("refusals")
    assert refused.outcome == outcome
    assert world.reads.ledger("refusals") == []


def test_a_producer_refuses_before_anything_is_sent(world: World) -> None:
    ends = world.log_ends()
    with pytest.raises(ContractError) as refusal:
        world.ledger.append(make("FIELD_SET", turn_id=0))
    assert refusal.value.field == "turn_id"
    world.ledger.flush()
    assert world.log_ends() == ends


def test_many_are_appended_without_waiting_for_each(world: World) -> None:
    receipts = [world.ledger.append(make("FIELD_SET", tenant_id="many", turn_id=i + 1)) for i in range(500)]
    ids = [receipt.event_id() for receipt in receipts]
    assert ids == sorted(set(ids))
    assert all(receipt.outcome(30) == Accepted() for receipt in receipts)
    assert [entry.work_order_event_id for entry in world.reads.ledger("many")] == ids


def test_a_cancel_takes_its_identity_from_the_record(world: World) -> None:
    world.append(make("WORK_ORDER_CREATED", tenant_id="cancels", turn_id=4))
    assert world.outcome(make("FIELD_SET", tenant_id="cancels", turn_id=5)) == Accepted()
    receipt = world.ledger.cancel("cancels", "order-1", 9, "key", now=START + 1)
    assert receipt.outcome(30) == Accepted()
    current = world.reads.current("cancels", "order-1")
    assert current is not None
    assert (current.work_order_status, current.turn_id, current.last_event_id) == (
        "CANCELED",
        5,
        receipt.event_id(),
    )
    again = world.ledger.cancel("cancels", "order-1", 9, "key")
    assert again.outcome(30) == Replayed(receipt.event_id(), request_differs=False)


def test_a_cancel_of_nothing_is_refused_without_being_sent(world: World) -> None:
    with pytest.raises(ContractError) as refusal:
        world.ledger.cancel("cancels", "no-such-order", 9, "key")
    assert refusal.value.reason_code == CANCEL_INVALID_STATE


def test_the_record_as_it_was_at_an_event_id(world: World) -> None:
    receipts = world.append(
        make("WORK_ORDER_CREATED", tenant_id="history"),
        make("FIELD_SET", tenant_id="history"),
        make("STEP_STARTED", tenant_id="history"),
    )
    assert receipts[-1].outcome(30) == Accepted()
    then = world.reads.current_at("history", "order-1", receipts[1].event_id())
    assert then is not None
    assert then.last_event_id == receipts[1].event_id()
    assert then.active_step_id is None
    now = world.reads.current("history", "order-1")
    latest = world.reads.current_at("history", "order-1", receipts[2].event_id())
    assert now == latest is not None
    assert world.reads.current_at("history", "order-1", receipts[0].event_id() - 1) is None


def test_the_ledger_is_read_in_pages(world: World) -> None:
    receipts = world.append(
        *(make("FIELD_SET", tenant_id="pages", work_order_id=f"o{i % 2}", turn_id=i + 1) for i in range(6))
    )
    assert receipts[-1].outcome(30) == Accepted()
    ids = [receipt.event_id() for receipt in receipts]
    page = world.reads.ledger("pages", first_id=ids[1], last_id=ids[4], page_size=2)
    assert [entry.work_order_event_id for entry in page] == ids[1:3]
    of_one = world.reads.ledger("pages", "o1")
    assert [entry.work_order_event_id for entry in of_one] == ids[1::2]


def test_steps_leases_and_what_is_due(world: World) -> None:
    world.append(
        make("STEP_STARTED", tenant_id="dues"),
        make("STEP_FAILED", tenant_id="dues"),
        make("STEP_RETRY_SCHEDULED", tenant_id="dues"),
    )
    assert world.outcome(make("LEASE_ACQUIRED", tenant_id="dues")) == Accepted()
    attempts = world.reads.attempts("dues", "order-1")
    assert [(row.step_id, row.attempt_index, row.status) for row in attempts] == [
        ("step-1", 0, "FAILED"),
        ("step-1", 1, "SCHEDULED"),
    ]
    expiry = START + 60_000 * 1_000_000
    lease = world.reads.active_lease("dues", "order-1", expiry - 1)
    assert lease is not None
    assert lease.lease_owner_id == "owner-1"
    assert world.reads.active_lease("dues", "order-1", expiry) is None
    assert world.reads.expired_leases("dues", expiry - 1) == []
    assert [found.work_order_id for found in world.reads.expired_leases("dues", expiry)] == ["order-1"]
    assert world.reads.due_retries("dues", START + HOUR - 1) == []
    assert [due.attempt_index for due in world.reads.due_retries("dues", START + HOUR)] == [1]


def test_the_pending_list_is_the_same_from_cache_and_from_postgres(world: World) -> None:
    for i in range(3):
        event = make("WORK_ORDER_CREATED", tenant_id="lists", work_order_id=f"o{i}", created_at=START + i % 2)
        assert world.outcome(event) == Accepted()
    query = PendingQuery("lists", "ada", START + HOUR)
    from_postgres = world.reads.pending(query)
    assert not from_postgres.from_cache
    from_cache = wait_until(lambda: _cached(world, query), "the cache to answer")
    assert from_cache[:2] == from_postgres[:2]
    assert [offer.work_order_id for offer in from_cache.offers] == ["o1", "o0", "o2"]
    canceled = world.ledger.cancel("lists", "o1", 1, "k", now=START + 9)
    assert canceled.outcome(30) == Accepted()
    after = world.reads.pending(query, at_least=canceled.event_id())
    assert after.position > from_cache.position
    assert [offer.work_order_id for offer in after.offers] == ["o0", "o2"]


def _cached(world: World, query: PendingQuery) -> PendingAnswer | None:
    """The answer, if the cache gave it; Redis is left alone for a while when it took too long."""
    answer = world.reads.pending(query)
    return answer if answer.from_cache else None


def test_verify_finds_everything_equal(world: World) -> None:
    world.drain()
    report = world.verify()
    assert report.differences == []
    assert report.compared == report.equal > 0


def test_a_cached_list_from_before_an_event_is_passed_over_for_whoever_knows_of_the_event(world: World) -> None:
    create = world.ledger.append(make("WORK_ORDER_CREATED", tenant_id="own-writes"))
    assert create.outcome(30) == Accepted()
    query = PendingQuery("own-writes", "ada", START + HOUR)
    answer = wait_until(lambda: _cached(world, query), "the cache to answer")
    assert world.reads.pending(query, at_least=create.event_id()).from_cache
    with pytest.raises(UnavailableError, match="is not folded yet"):
        world.reads.until(time.monotonic() + 0.1).pending(query, at_least=create.event_id() + 1)
    set_field = world.ledger.append(make("FIELD_SET", tenant_id="own-writes"))
    later = world.reads.pending(query, at_least=set_field.event_id())
    assert later.position > answer.position


def test_a_ledger_reads_pending_lists_from_the_cache_where_its_settings_name_one(world: World) -> None:
    given = LedgerSettings.of(world.settings)
    query = PendingQuery("own-cache", "ada", START + HOUR)
    with Ledger.connect(given) as ledger, Ledger.connect(dataclasses.replace(given, redis_url=None)) as plain:
        create = ledger.append(make("WORK_ORDER_CREATED", tenant_id="own-cache"))
        assert create.outcome(30) == Accepted()
        wait_until(lambda: ledger.reads().pending(query).from_cache, "the cache to answer")
        assert not plain.reads().pending(query).from_cache
        assert ledger.reads().pending(query, at_least=create.event_id()).offers == plain.reads().pending(query).offers


def test_the_example_of_the_readme_runs_as_printed_and_again_as_replays(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    here = StackAddresses(world.stack.bootstrap_servers, world.settings.admin(), world.stack.redis_url)
    monkeypatch.setattr(local_stack, "addresses", lambda _: here)
    monkeypatch.setenv("CORE_TABLES_TOPIC", world.settings.topic)
    printed = []
    for _ in range(2):
        typed = InteractiveConsole()
        for line in (*example.splitlines(), ""):
            typed.push(line)
        shown = capsys.readouterr()
        assert shown.err == "", "an interpreter takes it line by line, and an empty line ends a block"
        printed.append(shown.out.splitlines())
    (_, created, asked, clarify, canceled), (_, again, asked_again, closed, once_more) = printed
    assert (created, asked, clarify, canceled) == ("Accepted()", "Accepted()", "CLARIFY", "Accepted()")
    assert all(outcome.startswith("Replayed(") for outcome in (again, asked_again, once_more))
    assert closed == "CANCELED"
