"""What is due: of open work orders only, oldest first, in pages; the rows say so without a look at other tables."""

from collections.abc import Iterator
from typing import Any

import pytest

from core_tables.projection.fold.evolve import evolve
from core_tables.projection.fold.work_order import WorkOrder, settled
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.postgres.rows import attempt_rows, lease_rows
from core_tables.projection.postgres.tenant_reads import Page
from core_tables.schemas import events
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import ContractError
from core_tables.schemas.vocabulary import MAX_I64, NS_PER_MS

from .builders import HOUR, START, make
from .world import World

SOON = START + HOUR
TIMEOUT = START + 1000 * NS_PER_MS  # of the step that the builders start
EXPIRY = START + 60_000 * NS_PER_MS  # of their lease


def folded(*changes: LedgerEvent, state: WorkOrder | None = None) -> WorkOrder:
    """A work order after events."""
    for event_id, event in enumerate(changes, 1 if state is None else state.last.last_event_id + 1):
        state = evolve(state, event, event_id)
    assert state is not None
    return state


def due(state: WorkOrder, before: WorkOrder | None = None) -> dict[str, int | None]:
    """By the status of a row that is written, when it is due."""
    rows = {row.status: row.due_at for row in attempt_rows(state, before)}
    return rows | {row.lease_state: row.due_at for row in lease_rows(state, before)}


OPEN = folded(
    make("STEP_STARTED", step_id="runs"), make("STEP_RETRY_SCHEDULED", step_id="waits"), make("LEASE_ACQUIRED")
)


def test_a_row_says_when_it_is_due() -> None:
    assert due(OPEN) == {"RUNNING": TIMEOUT, "SCHEDULED": SOON, "ACTIVE": EXPIRY}


def test_what_has_ended_is_not_due() -> None:
    ended = folded(
        make("STEP_FINISHED", step_id="runs"),
        make("STEP_FAILED", step_id="waits", payload=events.StepFailed(1, 7)),
        make("LEASE_RELEASED"),
        state=OPEN,
    )
    assert due(ended, OPEN) == {"SUCCEEDED": None, "FAILED": None, "RELEASED": None}


def test_a_work_order_that_closes_takes_its_rows_out_of_what_is_due_and_one_that_opens_puts_them_back() -> None:
    """Also when the rows themselves are as they were, and the events that made them are out of memory."""
    before = settled(OPEN)
    closed = folded(make("STATUS_CHANGED", work_order_status="FAILED"), state=before)
    assert due(closed, before) == {"RUNNING": None, "SCHEDULED": None, "ACTIVE": None}
    still = folded(make("STATUS_CHANGED", work_order_status="DONE"), state=settled(closed))
    assert due(still, settled(closed)) == {}
    opened = folded(make("STATUS_CHANGED"), state=settled(still))
    assert due(opened, settled(still)) == due(OPEN)


def test_a_step_without_a_timeout_is_never_due_and_a_far_one_at_the_end_of_time() -> None:
    assert due(folded(make("STEP_STARTED", payload=events.StepStarted(0)))) == {"RUNNING": None}
    assert due(folded(make("STEP_STARTED", payload=events.StepStarted(0, MAX_I64)))) == {"RUNNING": MAX_I64}


def test_a_row_that_is_never_due_is_not_written_again_when_its_work_order_closes_or_opens() -> None:
    before = folded(
        make("STEP_STARTED", step_id="no timeout", payload=events.StepStarted(0)), make("STEP_STARTED", step_id="runs")
    )
    closed = folded(make("STATUS_CHANGED", work_order_status="DONE"), state=before)
    opened = folded(make("STATUS_CHANGED"), state=closed)
    for later, earlier in ((closed, before), (opened, closed)):
        assert [row.step_id for row in attempt_rows(later, earlier)] == ["runs"]


@pytest.fixture(scope="module")
def reads(world: World) -> Iterator[Reads]:
    """1,200 failed work orders with a retry, a running step and a lease; an open one, and one that was opened again."""
    with world.working():
        for number in range(1200):
            world.append(*_life(f"failed-{number}", "FAILED"))
        world.append(*_life("live", "EXECUTING"), *_life("again", "FAILED"))
        world.append(make("STATUS_CHANGED", tenant_id="dues", work_order_id="again"))
        assert world.outcome(make("LEASE_ACQUIRED", tenant_id="other")) == Accepted()
        world.drain()
        yield world.reads


def _life(name: str, status: str) -> Iterator[LedgerEvent]:
    of: dict[str, Any] = {"tenant_id": "dues", "work_order_id": name}
    yield make("STEP_STARTED", **of)
    yield make("STEP_FAILED", **of)
    yield make("STEP_RETRY_SCHEDULED", **of)
    yield make("STEP_STARTED", **of, step_id="step-2")
    yield make("LEASE_ACQUIRED", **of)
    yield make("STATUS_CHANGED", **of, work_order_status=status)


@pytest.mark.stack
def test_a_due_retry_of_an_open_work_order_is_found_among_closed_ones_and_brings_its_limits(reads: Reads) -> None:
    page = reads.due_retries("dues", SOON, page_size=10)
    assert ([found.work_order_id for found in page], page.next) == (["again", "live"], None)
    for found in page:
        assert (found.step_id, found.attempt_index) == ("step-1", 1)
        limits = found.timeout_ms, found.max_retries, found.retry_backoff_ms
        assert (*limits, found.last_failure_reason_code) == (1000, 3, 50, 77)
    assert reads.due_retries("dues", SOON - 1) == []


@pytest.mark.stack
def test_a_step_past_its_timeout_is_found_from_that_nanosecond_on(reads: Reads) -> None:
    page = reads.timed_out_steps("dues", TIMEOUT)
    assert [(found.work_order_id, found.step_id) for found in page] == [("again", "step-2"), ("live", "step-2")]
    assert {found.timed_out_at for found in page} == {TIMEOUT}
    assert reads.timed_out_steps("dues", TIMEOUT - 1) == []


@pytest.mark.stack
def test_an_expired_lease_of_an_open_work_order_is_found_among_those_of_closed_ones(reads: Reads) -> None:
    assert [found.work_order_id for found in reads.expired_leases("dues", EXPIRY)] == ["again", "live"]
    assert reads.expired_leases("dues", EXPIRY - 1) == []
    assert reads.active_lease("dues", "failed-7", EXPIRY - 1) is not None, "the row itself is as it was"


@pytest.mark.stack
def test_pages_of_what_is_due_go_on_where_the_one_before_ended(reads: Reads) -> None:
    def names(page: Page[Any]) -> list[str]:
        return [found.work_order_id for found in page]

    for read, when in ((reads.due_retries, SOON), (reads.timed_out_steps, TIMEOUT), (reads.expired_leases, EXPIRY)):
        first = read("dues", when, page_size=1)
        second = read("dues", when, page_size=1, after=first.next)
        assert (names(first), names(second), second.next) == (["again"], ["live"], None)


@pytest.mark.stack
@pytest.mark.parametrize("cursor", [(), (1, "a"), (1, "a", "b", "c"), ("1", "a", "b", 0)])
def test_a_cursor_of_another_read_is_refused(reads: Reads, cursor: tuple[int | str, ...]) -> None:
    with pytest.raises(ContractError) as refusal:
        reads.due_retries("dues", SOON, after=cursor)
    assert refusal.value.field == "after"
