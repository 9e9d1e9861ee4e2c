"""Conformance: steps and their attempts, approvals, and the end of a work order (contract, section 4)."""

import pytest
from msgspec.structs import replace

from core_tables.projection.fold.work_order import ActiveStep, Approval
from core_tables.schemas import events
from core_tables.schemas.outcomes import Accepted

from .book import Book, created
from .builders import HOUR, START, make

TTL = 60_000 * 1_000_000  # ns


def test_s4_a_started_step_is_the_active_one() -> None:
    book = created()
    book.append(make("STEP_STARTED"))
    state = book.state()
    assert state.active == ActiveStep(
        active_step_id="step-1",
        active_step_attempt=0,
        timeout_ms_active=1000,
        max_retries_active=3,
        retry_backoff_ms_active=50,
        next_retry_at=None,
        last_failure_reason_code=None,
    )
    assert state.attempts["step-1", 0].status == "RUNNING"
    assert state.attempts["step-1", 0].started_at == START


def test_s4_a_finished_step_succeeded_and_is_active_no_longer() -> None:
    book = created()
    book.append(make("STEP_STARTED"), make("STEP_FINISHED", created_at=START + 9))
    assert book.state().active.active_step_id is None
    row = book.state().attempts["step-1", 0]
    assert (row.status, row.started_at, row.finished_at, row.timeout_ms) == ("SUCCEEDED", START, START + 9, 1000)


def test_s4_a_failed_step_leaves_its_reason() -> None:
    book = created()
    book.append(make("STEP_STARTED"), make("STEP_FAILED"))
    assert book.state().active.last_failure_reason_code == 77
    assert book.state().attempts["step-1", 0].reason_code == 77


def test_s4_a_retry_makes_a_scheduled_row_and_says_when() -> None:
    book = created()
    book.append(make("STEP_STARTED"), make("STEP_FAILED"), make("STEP_RETRY_SCHEDULED"))
    assert book.state().active.next_retry_at == START + HOUR
    assert book.state().attempts["step-1", 1].status == "SCHEDULED"
    book.append(make("STEP_STARTED", payload=events.StepStarted(1)))
    assert book.state().active.next_retry_at is None
    assert book.state().attempts["step-1", 1].status == "RUNNING"


LIMITS = (1000, 3, 50)


def limits(book: Book, attempt_index: int) -> tuple[int | None, ...]:
    row = book.state().attempts["step-1", attempt_index]
    return row.timeout_ms, row.max_retries, row.retry_backoff_ms


def retry(attempt_index: int) -> events.StepRetryScheduled:
    return events.StepRetryScheduled(attempt_index, START + HOUR)


def test_s4_a_retry_takes_the_limits_of_the_attempt_before_it() -> None:
    book = created()
    book.append(make("STEP_STARTED"), make("STEP_FAILED"), make("STEP_RETRY_SCHEDULED"))
    assert limits(book, 1) == LIMITS
    book.append(make("STEP_RETRY_SCHEDULED", payload=retry(2)), make("STEP_RETRY_SCHEDULED", step_id="other"))
    assert limits(book, 2) == LIMITS, "those that were taken are handed on"
    assert book.state().attempts["other", 1].timeout_ms is None, "of the same step"


def test_s4_a_retry_with_limits_of_its_own_keeps_them() -> None:
    book = created()
    book.append(make("STEP_STARTED"), make("STEP_STARTED", payload=events.StepStarted(1, None, 7)))
    book.append(make("STEP_RETRY_SCHEDULED"))
    assert limits(book, 1) == (None, 7, None)


def test_s4_a_retry_without_an_attempt_before_it_has_no_limits() -> None:
    book = created()
    book.append(make("STEP_STARTED"), make("STEP_RETRY_SCHEDULED", payload=retry(2)))
    assert limits(book, 2) == (None, None, None)
    book.append(make("STEP_RETRY_SCHEDULED", payload=retry(0), step_id="step-2"))
    assert book.state().attempts["step-2", 0].timeout_ms is None


@pytest.mark.parametrize("event_type", ["STEP_FINISHED", "STEP_FAILED", "STEP_RETRY_SCHEDULED"])
def test_s4_an_end_without_a_start_makes_its_row(event_type: str) -> None:
    book = Book()
    assert book.append(make(event_type)) == Accepted()  # type: ignore[arg-type]
    assert len(book.state().attempts) == 1


def test_s4_an_end_of_another_attempt_leaves_the_active_step() -> None:
    book = created()
    book.append(make("STEP_STARTED", payload=events.StepStarted(1)), make("STEP_FINISHED"))
    assert book.state().active.active_step_attempt == 1


def test_s4_an_approval_is_pending_until_it_is_resolved() -> None:
    book = created()
    book.append(make("EXTERNAL_APPROVAL_REQUESTED"))
    pending = Approval(pending=True, request_id="request-1", target_user_id="boss", expires_at=START + HOUR)
    assert book.state().approval == pending
    book.append(make("EXTERNAL_APPROVAL_RESOLVED"))
    assert book.state().approval == replace(pending, pending=False, decision="APPROVED")


def test_s4_an_approval_is_resolved_only_by_the_request_that_is_waited_for() -> None:
    book = created()
    second = events.ExternalApprovalRequested("request-2", "boss", START + HOUR)
    book.append(make("EXTERNAL_APPROVAL_REQUESTED"), make("EXTERNAL_APPROVAL_REQUESTED", payload=second))
    before = book.state().approval
    assert book.append(make("EXTERNAL_APPROVAL_RESOLVED")) == Accepted(), "it is recorded in the ledger"
    assert book.state().approval == before
    book.append(make("EXTERNAL_APPROVAL_RESOLVED", payload=events.ExternalApprovalResolved("request-2", "DENIED")))
    assert (book.state().approval.pending, book.state().approval.decision) == (False, "DENIED")


def test_s4_a_second_answer_to_a_request_changes_nothing() -> None:
    book = created()
    book.append(make("EXTERNAL_APPROVAL_REQUESTED"), make("EXTERNAL_APPROVAL_RESOLVED"))
    book.append(make("EXTERNAL_APPROVAL_RESOLVED", payload=events.ExternalApprovalResolved("request-1", "DENIED")))
    assert book.state().approval.decision == "APPROVED"


def test_s4_a_new_request_has_no_decision_yet() -> None:
    book = created()
    book.append(make("EXTERNAL_APPROVAL_REQUESTED"), make("EXTERNAL_APPROVAL_RESOLVED"))
    book.append(make("EXTERNAL_APPROVAL_REQUESTED"))
    assert (book.state().approval.pending, book.state().approval.decision) == (True, None)


@pytest.mark.parametrize("status", ["DONE", "REFUSED", "FAILED", "CANCELED"])
def test_s4_a_closing_status_ends_a_pending_approval(status: str) -> None:
    book = created()
    book.append(make("EXTERNAL_APPROVAL_REQUESTED"))
    book.append(make("STATUS_CHANGED", work_order_status=status, idempotency_key="k"))
    assert (book.state().approval.pending, book.state().approval.decision) == (False, None)
    book.append(make("STATUS_CHANGED"))
    assert not book.state().approval.pending, "it stays ended when the work order is opened again"


def test_s4_an_approval_requested_by_a_closing_event_is_not_waited_for() -> None:
    book = created()
    book.append(make("EXTERNAL_APPROVAL_REQUESTED", work_order_status="DONE"))
    assert not book.state().approval.pending


def test_s4_step_and_lease_columns_are_those_of_the_last_event_null_included() -> None:
    book = created()
    book.append(make("LEASE_ACQUIRED"))
    last = book.state().last
    assert (last.step_id, last.step_input_hash) == (None, None)
    assert (last.lease_owner_id, last.lease_token_hash, last.lease_expires_at) == ("owner-1", "token-1", START + TTL)
    book.append(make("STEP_STARTED"))
    last = book.state().last
    assert (last.step_id, last.step_input_hash) == ("step-1", "hash")
    assert (last.lease_owner_id, last.lease_token_hash, last.lease_expires_at) == (None, None, None)


@pytest.mark.parametrize("status", ["DONE", "REFUSED", "FAILED"])
def test_s4_a_closing_status_sets_closed_at_and_an_open_one_clears_it(status: str) -> None:
    book = created()
    book.append(make("STATUS_CHANGED", work_order_status=status, created_at=START + 1))
    assert book.state().closed_at == START + 1
    book.append(make("STATUS_CHANGED", work_order_status=status, created_at=START + 2))
    assert book.state().closed_at == START + 1
    book.append(make("STATUS_CHANGED", work_order_status="EXECUTING", created_at=START + 3))
    assert book.state().closed_at is None
