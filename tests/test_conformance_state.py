"""Conformance: cancels, and the state that an event expects (contract, sections 2 to 5)."""

import pytest

from core_tables.schemas import events
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import CANCEL_INVALID_STATE, CONTRACT_VALIDATION_FAILED, LEASE_NOT_FOUND

from .book import Book, created
from .builders import START, make


@pytest.mark.parametrize(
    ("event_type", "reason_code"),
    [
        ("WORK_ORDER_CANCELED", CANCEL_INVALID_STATE),
        ("LEASE_RENEWED", LEASE_NOT_FOUND),
        ("LEASE_RELEASED", LEASE_NOT_FOUND),
    ],
)
def test_s4_cancel_renew_and_release_need_a_work_order(event_type: str, reason_code: str) -> None:
    assert Book().refusal(make(event_type)).reason_code == reason_code  # type: ignore[arg-type]


@pytest.mark.parametrize("status", ["DRAFT", "CLARIFY", "CONFIRM"])
def test_s2_a_pending_work_order_can_be_canceled(status: str) -> None:
    book = Book()
    book.append(make("WORK_ORDER_CREATED", work_order_status=status))
    assert book.append(make("WORK_ORDER_CANCELED", created_at=START + 1)) == Accepted()
    assert (book.state().last.work_order_status, book.state().closed_at) == ("CANCELED", START + 1)


@pytest.mark.parametrize("status", ["EXECUTING", "DONE", "REFUSED", "FAILED"])
def test_s2_no_other_work_order_can_be_canceled(status: str) -> None:
    book = created()
    book.append(make("STATUS_CHANGED", work_order_status=status))
    assert book.refusal(make("WORK_ORDER_CANCELED")).reason_code == CANCEL_INVALID_STATE


def test_s2_a_canceled_work_order_cannot_be_canceled_again() -> None:
    book = created()
    book.append(make("WORK_ORDER_CANCELED"))
    assert book.refusal(make("WORK_ORDER_CANCELED", idempotency_key="again")).reason_code == CANCEL_INVALID_STATE


def test_s4_cancel_cancels_open_attempts_and_releases_the_lease() -> None:
    book = created()
    book.append(make("STEP_STARTED"), make("STEP_RETRY_SCHEDULED"), make("STEP_FINISHED", step_id="done"))
    book.append(make("LEASE_ACQUIRED"), make("WORK_ORDER_CANCELED", created_at=START + 3))
    state = book.state()
    assert {row.idempotency_key for row in state.attempts.values()} == {None}, "a cancel leaves an attempt its key"
    assert {key: row.status for key, row in state.attempts.items()} == {
        ("step-1", 0): "CANCELED",
        ("step-1", 1): "CANCELED",
        ("done", 0): "SUCCEEDED",
    }
    assert [lease.lease_state for lease in state.closed_leases] == ["RELEASED"]
    assert state.lease is None
    assert state.active.active_step_id is None
    assert state.active.next_retry_at is None


def test_s4_any_event_that_turns_the_status_to_canceled_is_a_cancel() -> None:
    book = created()
    book.append(make("LEASE_ACQUIRED"), make("STEP_STARTED"))
    keyless = book.refusal(make("STATUS_CHANGED", work_order_status="CANCELED"))
    assert (keyless.reason_code, keyless.field) == (CONTRACT_VALIDATION_FAILED, "idempotency_key")
    assert book.append(make("STATUS_CHANGED", work_order_status="CANCELED", idempotency_key="k")) == Accepted()
    assert book.state().lease is None
    assert book.state().attempts["step-1", 0].status == "CANCELED"


def test_s4_such_a_cancel_obeys_the_rule_of_cancel() -> None:
    book = created()
    book.append(make("STATUS_CHANGED", work_order_status="EXECUTING"))
    refusal = book.refusal(make("FIELD_SET", work_order_status="CANCELED", idempotency_key="k"))
    assert refusal.reason_code == CANCEL_INVALID_STATE
    assert (
        Book().refusal(make("FIELD_SET", work_order_status="CANCELED", idempotency_key="k")).reason_code
        == CANCEL_INVALID_STATE
    )


def test_s4_an_event_that_leaves_a_canceled_work_order_canceled_is_no_cancel() -> None:
    book = created()
    book.append(make("WORK_ORDER_CANCELED"))
    assert book.append(make("STEP_FINISHED", work_order_status="CANCELED")) == Accepted()


def test_s3_expected_last_event_id_must_be_the_records() -> None:
    book = Book()
    assert book.append(make("WORK_ORDER_CREATED", expected_last_event_id=0)) == Accepted()
    last = book.last_id
    refusal = book.refusal(make("FIELD_SET", expected_last_event_id=0))
    assert (refusal.reason_code, refusal.field) == (CONTRACT_VALIDATION_FAILED, "expected_last_event_id")
    assert book.append(make("FIELD_SET", expected_last_event_id=last)) == Accepted()


def test_s3_expecting_an_event_of_an_absent_work_order_is_refused() -> None:
    assert Book().refusal(make("FIELD_SET", expected_last_event_id=7)).field == "expected_last_event_id"


def test_s3_the_correlation_id_is_the_same_for_every_event_of_a_work_order() -> None:
    assert created().refusal(make("FIELD_SET", correlation_id=99)).field == "correlation_id"


def test_s5_a_correlation_id_is_bound_once_per_tenant() -> None:
    book = created()
    bound = book.state().identity.correlation_id
    assert (
        book.refusal(make("WORK_ORDER_CREATED", work_order_id="order-2", correlation_id=bound)).field
        == "correlation_id"
    )
    assert book.append(make("WORK_ORDER_CREATED", tenant_id="globex", correlation_id=bound)) == Accepted()


def test_s5_the_same_work_order_id_under_two_tenants_is_two_work_orders() -> None:
    book = created()
    book.append(make("WORK_ORDER_CREATED", tenant_id="globex", payload=events.WorkOrderCreated("bob")))
    assert book.state("acme").origin.requester_user_id == "ada"
    assert book.state("globex").origin.requester_user_id == "bob"


def test_a_refused_event_changes_nothing() -> None:
    book = created()
    before = book.state()
    book.refusal(make("FIELD_SET", turn_id=0))
    assert book.state() is before
