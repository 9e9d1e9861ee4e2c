"""What a read refuses to ask the database, since no row could answer it."""

from collections.abc import Callable, Iterator

import pytest

from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import CONTRACT_VALIDATION_FAILED, ContractError
from core_tables.schemas.vocabulary import MAX_I64

from .builders import START, make
from .world import World

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module", autouse=True)
def _one_order(world: World) -> Iterator[None]:
    with world.working():
        assert world.outcome(make("WORK_ORDER_CREATED")) == Accepted()
        yield


TEXTS: dict[str, tuple[str, Callable[[Reads, str], object]]] = {
    "tenant": ("tenant_id", lambda reads, text: reads.current(text, "order-1")),
    "tenant of a list": ("tenant_id", lambda reads, text: reads.pending(PendingQuery(text, "ada", START))),
    "current": ("work_order_id", lambda reads, text: reads.current("acme", text)),
    "record at an event id": ("work_order_id", lambda reads, text: reads.current_at("acme", text, 1)),
    "ledger": ("work_order_id", lambda reads, text: reads.ledger("acme", text)),
    "attempts": ("work_order_id", lambda reads, text: reads.attempts("acme", text)),
    "lease": ("work_order_id", lambda reads, text: reads.active_lease("acme", text, START)),
    "last lease": ("work_order_id", lambda reads, text: reads.last_lease("acme", text)),
    "work order": ("work_order_id", lambda reads, text: reads.work_order("acme", text)),
    "step of a cursor": ("after_step_id", lambda reads, text: reads.attempts("acme", "order-1", after=(text, 0))),
    "bound event": ("idempotency_key", lambda reads, text: reads.bound_event("acme", "order-1", text)),
    "cursor": ("after_work_order_id", lambda reads, text: reads.current_by_status("acme", "DRAFT", after=(text,))),
    "target": ("target_user_id", lambda reads, text: reads.awaited_approvals("acme", text)),
    "requester": ("requester_user_id", lambda reads, text: reads.pending(PendingQuery("acme", text, START))),
}
NUMBERS: dict[str, tuple[str, Callable[[Reads, int], object]]] = {
    "first id": ("first_id", lambda reads, number: reads.ledger("acme", first_id=number)),
    "last id of a work order": ("last_id", lambda reads, number: reads.ledger("acme", "order-1", last_id=number)),
    "event id": ("event_id", lambda reads, number: reads.current_at("acme", "order-1", number)),
    "outcome": ("event_ids", lambda reads, number: reads.outcome("acme", number)),
    "lease": ("now", lambda reads, number: reads.active_lease("acme", "order-1", number)),
    "due retries": ("now", lambda reads, number: reads.due_retries("acme", number)),
    "timed-out steps": ("now", lambda reads, number: reads.timed_out_steps("acme", number)),
    "expired leases": ("now", lambda reads, number: reads.expired_leases("acme", number)),
    "expired approvals": ("now", lambda reads, number: reads.expired_approvals("acme", number)),
    "closed": ("event_id", lambda reads, number: reads.closed_after("acme", number)),
    "newest closed": ("event_id", lambda reads, number: reads.closed_before("acme", number)),
    "start": ("created_from", lambda reads, number: reads.ledger_by_creation("acme", number)),
    "end": ("created_to", lambda reads, number: reads.ledger_by_creation("acme", 0, number)),
    "records": ("first_id", lambda reads, number: reads.records_of_correlation("acme", 1, first_id=number)),
    "refused": ("before", lambda reads, number: reads.refused("acme", before=number)),
}


@pytest.mark.parametrize("text", ["a\0b", "\udcff"], ids=["NUL", "lone surrogate"])
@pytest.mark.parametrize("read", TEXTS)
def test_a_text_that_no_column_holds_is_refused_and_the_connection_lives_on(world: World, read: str, text: str) -> None:
    field, ask = TEXTS[read]
    with pytest.raises(ContractError) as refusal:
        ask(world.reads, text)
    assert (refusal.value.reason_code, refusal.value.field) == (CONTRACT_VALIDATION_FAILED, field)
    assert world.reads.current("acme", "order-1") is not None


@pytest.mark.parametrize("read", NUMBERS)
def test_a_number_beyond_64_bits_is_refused_and_the_edge_is_read(world: World, read: str) -> None:
    field, ask = NUMBERS[read]
    for number in (MAX_I64 + 1, -(2**64)):
        with pytest.raises(ContractError) as refusal:
            ask(world.reads, number)
        assert refusal.value.field == field
    ask(world.reads, MAX_I64)


def test_a_correlation_id_is_from_1_to_2_to_the_128(world: World) -> None:
    for read in (world.reads.current_by_correlation, world.reads.records_of_correlation):
        assert not read("acme", 2**128 - 1)
        for number in (0, 2**128, 10**5000):
            with pytest.raises(ContractError) as refusal:
                read("acme", number)
            assert refusal.value.field == "correlation_id"


PAGES: dict[str, Callable[[Reads, int], object]] = {
    "ledger": lambda reads, size: reads.ledger("acme", page_size=size),
    "ledger of a work order": lambda reads, size: reads.ledger("acme", "order-1", page_size=size),
    "refused": lambda reads, size: reads.refused("acme", page_size=size),
    "attempts": lambda reads, size: reads.attempts("acme", "order-1", page_size=size),
    "by status": lambda reads, size: reads.current_by_status("acme", "DRAFT", page_size=size),
    "closed": lambda reads, size: reads.closed_after("acme", 0, page_size=size),
    "newest closed": lambda reads, size: reads.closed_before("acme", page_size=size),
    "open of a requester": lambda reads, size: reads.open_of_requester("acme", "ada", page_size=size),
    "ledger by creation": lambda reads, size: reads.ledger_by_creation("acme", page_size=size),
    "records": lambda reads, size: reads.records_of_correlation("acme", 1, page_size=size),
    "expired approvals": lambda reads, size: reads.expired_approvals("acme", START, page_size=size),
    "awaited approvals": lambda reads, size: reads.awaited_approvals("acme", "boss", page_size=size),
    "due retries": lambda reads, size: reads.due_retries("acme", START, page_size=size),
    "timed-out steps": lambda reads, size: reads.timed_out_steps("acme", START, page_size=size),
    "expired leases": lambda reads, size: reads.expired_leases("acme", START, page_size=size),
}


@pytest.mark.parametrize("read", PAGES)
def test_a_page_holds_from_1_to_1000_rows(world: World, read: str) -> None:
    for size in (1, 1000):
        PAGES[read](world.reads, size)
    for size in (0, 1001, -1):
        with pytest.raises(ContractError) as refusal:
            PAGES[read](world.reads, size)
        assert refusal.value.field == "page_size"
