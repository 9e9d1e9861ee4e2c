"""What the further reads of the contract (section 1) answer, on the real parts."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas import events
from core_tables.schemas.outcomes import Accepted, Refused, Replayed
from core_tables.schemas.reasons import ContractError, UnavailableError
from core_tables.schemas.vocabulary import NS_PER_MS, WorkOrderStatus

from .builders import HOUR, START, make
from .world import World

pytestmark = pytest.mark.stack

OF: dict[str, Any] = {"tenant_id": "reads"}
EXPIRY = START + 60_000 * NS_PER_MS


@pytest.fixture(scope="module")
def reads(world: World) -> Iterator[Reads]:
    """The reads, while a worker folds."""
    with world.working():
        yield world.reads


def ids(world: World, *changes: events.LedgerEvent) -> list[int]:
    """Append, wait until all is folded, and return the event ids."""
    receipts = world.append(*changes)
    assert receipts[-1].outcome(30) is not None
    return [receipt.event_id() for receipt in receipts]


def test_s1_an_idempotency_key_is_bound_to_an_event_and_a_free_one_to_none(world: World, reads: Reads) -> None:
    created = make("WORK_ORDER_CREATED", **OF, work_order_id="keys", idempotency_key="k")
    first, _ = ids(world, created, make("FIELD_SET", **OF, work_order_id="keys", idempotency_key="k"))
    found = reads.bound_event("reads", "keys", "k")
    assert found is not None
    assert (found.work_order_event_id, found.event) == (first, created)
    assert reads.bound_event("reads", "keys", "free") is None
    assert reads.bound_event("reads", "other", "k") is None


def test_s1_record_attempts_and_lease_come_together_as_of_one_event(world: World, reads: Reads) -> None:
    of = {**OF, "work_order_id": "whole"}
    *_, last = ids(
        world, make("STEP_STARTED", **of), make("STEP_FAILED", **of), make("STEP_RETRY_SCHEDULED", **of),
        make("LEASE_ACQUIRED", **of),
    )  # fmt: skip
    found = reads.work_order("reads", "whole")
    assert found is not None
    assert found.last_event_id == last
    assert list(found.attempts) == reads.attempts("reads", "whole")
    assert found.last_lease == reads.last_lease("reads", "whole") is not None
    ids(world, make("LEASE_RELEASED", **of))
    found = reads.work_order("reads", "whole")
    assert found is not None
    assert found.last_lease is not None
    assert found.last_lease.lease_state == "RELEASED"
    assert reads.work_order("reads", "none") is None


def test_s1_never_leased_expired_and_released_are_told_apart(world: World, reads: Reads) -> None:
    of = {**OF, "work_order_id": "leases"}
    ids(world, make("FIELD_SET", **of))
    assert reads.last_lease("reads", "leases") is None
    ids(world, make("LEASE_ACQUIRED", **of))
    lease = reads.last_lease("reads", "leases")
    assert lease is not None
    assert lease == reads.active_lease("reads", "leases", EXPIRY - 1)
    assert reads.active_lease("reads", "leases", EXPIRY) is None
    ids(world, make("LEASE_ACQUIRED", **of, created_at=EXPIRY, lease_owner_id="owner-2"))
    second = reads.last_lease("reads", "leases")
    assert second is not None
    assert (second.lease_owner_id, second.lease_state) == ("owner-2", "ACTIVE")


def test_s1_attempts_come_in_pages(world: World, reads: Reads) -> None:
    of = {**OF, "work_order_id": "steps"}
    starts = [
        make("STEP_STARTED", **of, step_id=step, payload=events.StepStarted(i)) for step in "ab" for i in range(2)
    ]
    ids(world, *starts)
    first = reads.attempts("reads", "steps", page_size=3)
    assert [(found.step_id, found.attempt_index) for found in first] == [("a", 0), ("a", 1), ("b", 0)]
    second = reads.attempts("reads", "steps", after=first.next, page_size=3)
    assert [(found.step_id, found.attempt_index) for found in second] == [("b", 1)]
    assert second.next is None


def test_s1_approvals_are_found_by_expiry_and_by_the_user_who_is_asked(world: World, reads: Reads) -> None:
    for number, target in ((2, "boss"), (1, "boss"), (3, "else")):
        asked = events.ExternalApprovalRequested(f"request-{number}", target, START + number)
        ids(world, make("EXTERNAL_APPROVAL_REQUESTED", **OF, work_order_id=f"asks-{number}", payload=asked))
    names = [found.work_order_id for found in reads.expired_approvals("reads", START + 2)]
    assert names == ["asks-1", "asks-2"]
    first = reads.awaited_approvals("reads", "boss", page_size=1)
    second = reads.awaited_approvals("reads", "boss", page_size=1, after=first.next)
    assert [found.external_approval_request_id for found in (*first, *second)] == ["request-1", "request-2"]
    assert second.next is None
    answer = make(
        "EXTERNAL_APPROVAL_RESOLVED", **OF, work_order_id="asks-1",
        payload=events.ExternalApprovalResolved("request-1", "APPROVED"),
    )  # fmt: skip
    ids(world, answer, make("STATUS_CHANGED", **OF, work_order_id="asks-2", work_order_status="FAILED"))
    assert reads.expired_approvals("reads", START + HOUR)[0].external_approval_request_id == "request-3"
    assert reads.awaited_approvals("reads", "boss") == []


def test_s1_everything_of_a_correlation_is_there_refused_and_replayed_records_too(world: World, reads: Reads) -> None:
    of = {**OF, "correlation_id": 2**128 - 1}
    created = make("WORK_ORDER_CREATED", **of, work_order_id="talk", idempotency_key="k")
    asked = (
        created,
        make("FIELD_SET", **of, work_order_id="talk", turn_id=2),
        make("WORK_ORDER_CREATED", **of, work_order_id="talk", idempotency_key="k", turn_id=3),
        make("FIELD_SET", **of, work_order_id="second", turn_id=4),
    )
    event_ids = ids(world, *asked)
    found = reads.records_of_correlation("reads", 2**128 - 1)
    assert [record.event_id for record in found] == event_ids
    assert [type(record.outcome) for record in found] == [Accepted, Accepted, Replayed, Refused]
    assert [record.turn_id for record in found] == [1, 2, 3, 4]
    assert [record.event for record in found] == [*asked[:2], None, None]
    assert [record.work_order_id for record in found] == ["talk", "talk", "talk", "second"]
    page = reads.records_of_correlation("reads", 2**128 - 1, first_id=event_ids[1], page_size=2)
    assert [record.event_id for record in page] == event_ids[1:3]
    assert reads.records_of_correlation("reads", 2**128 - 2) == []


def test_s1_work_orders_are_listed_by_status(world: World, reads: Reads) -> None:
    of = {"tenant_id": "statuses"}
    ids(world, *(make("FIELD_SET", **of, work_order_id=name) for name in "cab"))
    ids(world, make("STATUS_CHANGED", **of, work_order_id="b", work_order_status="DONE"))
    first = reads.current_by_status("statuses", "DRAFT", page_size=1)
    second = reads.current_by_status("statuses", "DRAFT", page_size=1, after=first.next)
    assert [found.work_order_id for found in (*first, *second)] == ["a", "c"]
    assert second.next is None
    assert [found.work_order_id for found in reads.current_by_status("statuses", "DONE")] == ["b"]
    with pytest.raises(ContractError, match="must be one of DRAFT"):
        reads.current_by_status("statuses", cast(WorkOrderStatus, "SLEEPING"))


def test_s1_closed_work_orders_come_in_the_order_in_which_they_were_closed(world: World, reads: Reads) -> None:
    of = {"tenant_id": "closings"}

    def moved(name: str, status: str) -> events.LedgerEvent:
        return make("STATUS_CHANGED", **of, work_order_id=name, work_order_status=status)

    event_ids = ids(
        world, moved("b", "DRAFT"), moved("b", "DONE"), moved("a", "FAILED"), moved("b", "REFUSED"), moved("a", "DRAFT"),
        moved("c", "DONE"),
    )  # fmt: skip
    found = reads.closed_after("closings", 0)
    assert [(each.closing_event_id, each.work_order_id) for each in found] == [
        (event_ids[1], "b"),
        (event_ids[2], "a"),
        (event_ids[5], "c"),
    ]
    assert [each.work_order_status for each in found] == ["REFUSED", "DRAFT", "DONE"]
    assert [each.closing_event_id for each in reads.closed_after("closings", event_ids[1], page_size=1)] == [
        event_ids[2]
    ]


def test_s1_the_ledger_is_read_by_a_range_of_created_at_whatever_the_order_of_ids(world: World, reads: Reads) -> None:
    of = {"tenant_id": "times", "work_order_id": "w"}
    event_ids = ids(world, *(make("FIELD_SET", **of, created_at=START + moment) for moment in (5, 3, 3, 9)))
    page = reads.ledger_by_creation("times", START + 3, START + 5, page_size=2)
    last = reads.ledger_by_creation("times", START + 3, START + 5, page_size=2, after=page.next)
    assert [entry.work_order_event_id for entry in (*page, *last)] == [event_ids[1], event_ids[2], event_ids[0]]
    assert last.next is None


def test_a_read_for_an_event_waits_until_it_is_folded_and_no_longer_than_its_deadline(fresh: World) -> None:
    created = make("WORK_ORDER_CREATED", tenant_id="late")
    changed = make("STATUS_CHANGED", tenant_id="late", work_order_status="CONFIRM")
    receipts = fresh.append(created, changed)
    seen = receipts[-1].event_id()
    asks: list[Callable[[Reads], Any]] = [
        lambda reads: reads.current("late", "order-1", at_least=seen),
        lambda reads: reads.ledger("late", at_least=seen),
        lambda reads: reads.pending(PendingQuery("late", "ada", START), at_least=seen),
    ]
    for ask in asks:
        with pytest.raises(UnavailableError, match=f"event {seen} is not folded yet"):
            ask(fresh.reads.until(time.monotonic() + 0.2))
    # Reads of a ledger are woken by it, and other reads ask again and again.
    both = (fresh.reads, fresh.ledger.reads())
    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(ask, reads) for reads in both for ask in asks]
        with fresh.working():
            found = [answer.result() for answer in answers]
    for record, entries, listed in (found[:3], found[3:]):
        assert (record.last_event_id, len(entries)) == (seen, 2)
        assert [offer.work_order_status for offer in listed.offers] == ["CONFIRM"]


def test_pages_are_iterated_over_to_the_end_and_each_is_read_when_it_is_reached(world: World, reads: Reads) -> None:
    of = {"tenant_id": "paged"}
    event_ids = ids(world, *(make("FIELD_SET", **of, work_order_id=f"order-{number}") for number in range(7)))
    first = reads.ledger("paged", page_size=2)
    assert [entry.work_order_event_id for entry in first] == event_ids[:2]
    assert [entry.work_order_event_id for entry in first.all()] == event_ids
    assert [entry.work_order_event_id for entry in first.following()] == event_ids[2:4]
    assert reads.ledger("paged", after=first.next, page_size=2) == first.following()
    records = reads.current_by_status("paged", "DRAFT", page_size=3).all()
    assert next(records).work_order_id == "order-0"
    ids(world, make("STATUS_CHANGED", **of, work_order_id="order-5", work_order_status="DONE"))
    assert [record.work_order_id for record in records] == [f"order-{number}" for number in (1, 2, 3, 4, 6)]
    everything = reads.current_by_status("paged", "DONE")
    assert (list(everything.following()), len(list(everything.all()))) == ([], 1)
    again = {**of, "work_order_id": "again", "idempotency_key": "k"}
    same = ids(world, *(make("FIELD_SET", **again) for _ in range(5)))
    correlation_id = make("FIELD_SET", **again).correlation_id
    found = reads.records_of_correlation("paged", correlation_id, first_id=same[1], page_size=2).all()
    assert [record.event_id for record in found] == same[1:]
    refused = ids(world, *(make("FIELD_SET", **of, expected_last_event_id=1, turn_id=turn) for turn in (1, 2, 3)))
    assert [record.event_id for record in reads.refused("paged", page_size=2).all()] == refused[::-1]
