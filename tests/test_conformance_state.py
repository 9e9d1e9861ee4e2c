"""Conformance: what each event does to a work order, and the state rules (contract, sections 2, 4 and 5)."""

from typing import Any

import pytest
from msgspec.structs import replace

from core_tables.projection.fold.work_order import ActiveStep, Approval, Origin
from core_tables.schemas import events
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import (
    CANCEL_INVALID_STATE,
    CONTRACT_VALIDATION_FAILED,
    LEASE_HELD_BY_OTHER,
    LEASE_NOT_FOUND,
    LEASE_TOKEN_INVALID,
)

from .book import Book
from .builders import HOUR, START, make

TTL = 60_000 * 1_000_000  # ns


def created() -> Book:
    book = Book()
    book.append(make("WORK_ORDER_CREATED"))
    return book


def test_s4_created_sets_identity_and_initial_fields() -> None:
    state = created().state()
    assert state.origin == Origin(
        requester_user_id="ada",
        requester_speaker_id="speaker-1",
        device_id="device-1",
        session_id="session-1",
        process_id="process-1",
        blueprint_version="1.0",
        intent_type="BOOK",
    )
    assert state.collected.fields == {"city": "Paris"}
    assert state.collected.missing_fields == ("date",)
    assert state.identity.created_at == START


def test_s4_a_second_created_is_a_contract_failure() -> None:
    refusal = created().refusal(make("WORK_ORDER_CREATED"))
    assert (refusal.reason_code, refusal.field) == (CONTRACT_VALIDATION_FAILED, "event_type")


def test_s4_an_event_before_created_is_accepted_and_created_may_follow() -> None:
    book = Book()
    assert book.append(make("FIELD_SET")) == Accepted()
    assert book.state().origin.requester_user_id is None
    assert book.append(make("WORK_ORDER_CREATED")) == Accepted()
    assert book.state().collected.fields == {"date": "2026-01-01", "city": "Paris"}


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


def test_s4_the_status_is_the_one_the_event_carries() -> None:
    book = created()
    book.append(make("STATUS_CHANGED", work_order_status="DONE"), make("FIELD_SET", work_order_status="CLARIFY"))
    assert book.state().last.work_order_status == "CLARIFY"


def test_s4_field_set_sets_the_field_and_drops_it_from_the_missing_ones() -> None:
    book = created()
    book.append(make("FIELD_SET"))
    assert book.state().collected.fields == {"city": "Paris", "date": "2026-01-01"}
    assert book.state().collected.missing_fields == ()


def test_s4_a_correction_invalidates_prompt_dedupe_keys() -> None:
    book = created()
    book.append(make("FIELD_ASKED"), make("FIELD_SET", payload=events.FieldSet("date", "x", ["prompt-1", "unknown"])))
    assert book.state().collected.prompt_dedupe_keys == ()


def test_s4_a_resolved_conflict_is_in_fields_and_in_resolved_fields() -> None:
    book = created()
    book.append(make("FIELD_CONFLICT_RESOLVED"))
    assert book.state().collected.fields["city"] == "Rome"
    assert book.state().collected.resolved_fields == {"city": "Rome"}


def test_s4_asking_counts_attempts_and_remembers_the_prompt_once() -> None:
    book = created()
    book.append(make("FIELD_ASKED"), make("FIELD_ASKED", created_at=START + 5))
    assert book.state().collected.asked_fields == {"date": {"asked_at": START + 5, "attempts": 2}}
    assert book.state().collected.prompt_dedupe_keys == ("prompt-1",)


def test_s4_a_correction_allows_one_fresh_prompt() -> None:
    book = created()
    book.append(make("FIELD_ASKED"), make("FIELD_SET"))
    assert book.state().collected.asked_fields.keys() == {"date"}, "a value alone is no correction"
    book.append(make("FIELD_SET", payload=events.FieldSet("date", "x", ["another-prompt"])))
    assert book.state().collected.asked_fields == {}
    assert book.state().collected.prompt_dedupe_keys == ("prompt-1",)
    book.append(make("FIELD_ASKED"))
    assert book.state().collected.asked_fields["date"]["attempts"] == 1


def test_s4_a_field_that_is_set_to_null_is_missing_again() -> None:
    book = created()
    book.append(make("FIELD_CONFLICT_RESOLVED"), make("FIELD_SET", payload=events.FieldSet("city", None)))
    collected = book.state().collected
    assert (collected.fields, collected.resolved_fields, collected.missing_fields) == ({}, {}, ("date", "city"))
    book.append(make("FIELD_SET", payload=events.FieldSet("city", None)))
    assert book.state().collected.missing_fields == ("date", "city"), "missing once"
    book.append(make("FIELD_SET", payload=events.FieldSet("city", "")))
    assert (book.state().collected.fields, book.state().collected.missing_fields) == ({"city": ""}, ("date",))


def test_s4_a_resolved_conflict_is_not_missing() -> None:
    book = created()
    book.append(make("FIELD_CONFLICT_RESOLVED", payload=events.FieldConflictResolved("date", "2026-02-02")))
    assert book.state().collected.missing_fields == ()


def test_s4_created_counts_a_field_as_missing_once_and_only_if_it_has_no_value() -> None:
    book = Book()
    payload = events.WorkOrderCreated("u", fields={"city": "Rome"}, missing_fields=["date", "city", "party", "date"])
    book.append(make("FIELD_SET", payload=events.FieldSet("party", 4)), make("WORK_ORDER_CREATED", payload=payload))
    assert book.state().collected.missing_fields == ("date",)


def test_s4_created_keeps_what_was_known_to_be_missing() -> None:
    book = Book()
    book.append(make("STATUS_CHANGED", payload=events.StatusChanged(missing_fields=["party", "city"])))
    book.append(make("WORK_ORDER_CREATED"))
    assert book.state().collected.missing_fields == ("party", "date")


def test_s4_status_changed_adds_the_fields_that_are_missing_and_not_known() -> None:
    book = created()
    payload = events.StatusChanged("PENDING", ["date", "party", "city", "party"])
    book.append(make("STATUS_CHANGED", payload=payload))
    state = book.state()
    assert (state.collected.missing_fields, state.confirmation_state) == (("date", "party"), "PENDING")
    before = state.collected
    book.append(make("STATUS_CHANGED"))
    assert book.state().collected is before


def test_s4_status_changed_without_a_confirmation_state_leaves_it() -> None:
    book = created()
    book.append(make("STATUS_CHANGED"), make("STATUS_CHANGED", payload=events.StatusChanged()))
    assert book.state().confirmation_state == "PENDING"


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


# -- leases


def test_s4_a_lease_is_granted_when_there_is_none() -> None:
    book = created()
    assert book.append(make("LEASE_ACQUIRED")) == Accepted()
    lease = book.state().lease
    assert lease is not None
    assert (lease.lease_state, lease.lease_expires_at, lease.granted_event_id) == ("ACTIVE", START + TTL, book.last_id)


def test_s2_a_lease_held_by_another_is_refused_until_it_expires() -> None:
    book = created()
    book.append(make("LEASE_ACQUIRED"))
    refusal = book.refusal(make("LEASE_ACQUIRED", lease_owner_id="owner-2", created_at=START + TTL - 1))
    assert refusal.reason_code == LEASE_HELD_BY_OTHER
    assert book.append(make("LEASE_ACQUIRED", lease_owner_id="owner-2", created_at=START + TTL)) == Accepted()
    (expired,) = book.state().closed_leases
    assert (expired.lease_state, expired.lease_expires_at, expired.released_at) == ("EXPIRED", START + TTL, None)


def test_s5_an_acquire_by_the_same_owner_extends_under_the_new_token() -> None:
    book = created()
    book.append(make("LEASE_ACQUIRED"))
    granted = book.last_id
    book.append(make("LEASE_ACQUIRED", lease_token_hash="token-2", created_at=START + 5))
    lease = book.state().lease
    assert lease is not None
    assert (lease.granted_event_id, lease.lease_token_hash, lease.lease_expires_at) == (
        granted,
        "token-2",
        START + 5 + TTL,
    )
    assert book.state().closed_leases == ()


def test_s5_an_acquire_by_the_same_owner_after_expiry_is_a_new_grant() -> None:
    book = created()
    book.append(make("LEASE_ACQUIRED"), make("LEASE_ACQUIRED", created_at=START + TTL))
    assert [lease.lease_state for lease in book.state().closed_leases] == ["EXPIRED"]


@pytest.mark.parametrize("event_type", ["LEASE_RENEWED", "LEASE_RELEASED"])
def test_s2_renew_and_release_need_the_owner_the_token_and_an_unexpired_lease(event_type: str) -> None:
    book = created()
    assert book.refusal(make(event_type)).reason_code == LEASE_NOT_FOUND  # type: ignore[arg-type]
    book.append(make("LEASE_ACQUIRED"))
    wrong_token = book.refusal(make(event_type, lease_token_hash="other"))  # type: ignore[arg-type]
    assert (wrong_token.reason_code, wrong_token.field) == (LEASE_TOKEN_INVALID, "lease_token_hash")
    assert wrong_token.sentence == f"the token is not that of the lease, which owner-1 holds until {START + TTL}"
    wrong_owner = book.refusal(make(event_type, lease_owner_id="other"))  # type: ignore[arg-type]
    assert (wrong_owner.reason_code, wrong_owner.field) == (LEASE_HELD_BY_OTHER, "lease_owner_id")
    assert wrong_owner.sentence == f"owner-1 holds the lease until {START + TTL}"
    late = book.refusal(make(event_type, created_at=START + TTL))  # type: ignore[arg-type]
    assert late.reason_code == LEASE_NOT_FOUND
    assert late.sentence == f"the lease had expired at created_at; owner-1 held it until {START + TTL}"
    assert book.append(make(event_type)) == Accepted()  # type: ignore[arg-type]


STEPS = ["STEP_STARTED", "STEP_FINISHED", "STEP_FAILED", "STEP_RETRY_SCHEDULED"]


@pytest.mark.parametrize("event_type", STEPS)
def test_s4_a_step_that_claims_the_lease_is_accepted_while_it_is_active(event_type: str) -> None:
    def claim(**changes: Any) -> LedgerEvent:
        return make(event_type, **{"lease_owner_id": "owner-1", "lease_token_hash": "token-1", **changes})  # type: ignore[arg-type]

    assert Book().refusal(claim()).reason_code == LEASE_NOT_FOUND, "of no work order yet"
    book = created()
    none = book.refusal(claim())
    assert (none.reason_code, none.field) == (LEASE_NOT_FOUND, "lease_token_hash")
    assert none.sentence == "the work order has no active lease"
    book.append(make("LEASE_ACQUIRED"))
    other = book.refusal(claim(lease_owner_id="owner-2"))
    assert (other.reason_code, other.field) == (LEASE_HELD_BY_OTHER, "lease_owner_id")
    assert other.sentence == f"owner-1 holds the lease until {START + TTL}"
    token = book.refusal(claim(lease_token_hash="token-2"))
    assert (token.reason_code, token.field) == (LEASE_TOKEN_INVALID, "lease_token_hash")
    late = book.refusal(claim(created_at=START + TTL))
    assert (late.reason_code, late.field) == (LEASE_NOT_FOUND, "lease_token_hash")
    assert str(START + TTL) in late.sentence
    assert book.append(claim(created_at=START + TTL - 1)) == Accepted()


def test_s4_a_paused_executor_cannot_report_after_another_took_over() -> None:
    book = created()
    book.append(make("LEASE_ACQUIRED"), make("LEASE_ACQUIRED", lease_owner_id="owner-2", created_at=START + TTL))
    paused = make("STEP_FINISHED", lease_owner_id="owner-1", lease_token_hash="token-1", created_at=START + TTL)
    assert book.refusal(paused).reason_code == LEASE_HELD_BY_OTHER
    assert book.append(replace(paused, lease_owner_id=None, lease_token_hash=None)) == Accepted(), "it claims nothing"


def test_s4_a_released_lease_cannot_be_claimed() -> None:
    book = created()
    book.append(make("LEASE_ACQUIRED"), make("LEASE_RELEASED"))
    claim = make("STEP_FINISHED", lease_owner_id="owner-1", lease_token_hash="token-1")
    assert book.refusal(claim).reason_code == LEASE_NOT_FOUND


def test_s4_a_claim_changes_nothing_of_the_lease() -> None:
    book = created()
    book.append(make("LEASE_ACQUIRED"))
    before = book.state().lease
    book.append(make("STEP_STARTED", lease_owner_id="owner-1", lease_token_hash="token-1", created_at=START + 1))
    assert book.state().lease is before


def test_s4_state_rules_are_checked_in_the_contracts_order() -> None:
    """Each rule that comes later is broken too, until the event has nothing wrong with it but its size."""
    book = Book()
    many = {f"f{i}": 1 for i in range(64)}
    book.append(make("WORK_ORDER_CREATED", payload=events.WorkOrderCreated("ada", fields=many)))
    book.append(make("STATUS_CHANGED", work_order_status="EXECUTING"))
    wrong: dict[str, Any] = {
        "expected_last_event_id": 0,
        "correlation_id": 7,
        "payload": events.WorkOrderCreated("ada", fields={"one more": 1}),
    }
    found = [book.refusal(make("WORK_ORDER_CREATED", **wrong)).field]
    del wrong["expected_last_event_id"]
    found.append(book.refusal(make("WORK_ORDER_CREATED", **wrong)).field)
    del wrong["correlation_id"]
    found.append(book.refusal(make("WORK_ORDER_CREATED", **wrong)).field)
    assert found == ["expected_last_event_id", "correlation_id", "event_type"]
    step = make("STEP_FINISHED", lease_owner_id="o", lease_token_hash="t", work_order_status="CANCELED")
    codes = [book.refusal(replace(step, idempotency_key="k")).reason_code, book.refusal(step).reason_code]
    assert codes == [CANCEL_INVALID_STATE, CONTRACT_VALIDATION_FAILED], "cancel before the claim"
    assert book.refusal(replace(step, work_order_status="DRAFT")).reason_code == LEASE_NOT_FOUND
    assert book.refusal(make("FIELD_SET")).field == "fields_json"


def test_s4_a_renewed_lease_lasts_from_the_renewal() -> None:
    book = created()
    book.append(make("LEASE_ACQUIRED"), make("LEASE_RENEWED", created_at=START + 7))
    lease = book.state().lease
    assert lease is not None
    assert (lease.acquired_at, lease.renewed_at) == (START, START + 7)
    assert lease.lease_expires_at == START + 7 + TTL


def test_s4_a_released_lease_is_free_at_once() -> None:
    book = created()
    book.append(make("LEASE_ACQUIRED"), make("LEASE_RELEASED"))
    assert book.append(make("LEASE_ACQUIRED", lease_owner_id="owner-2")) == Accepted()


def test_s3_leases_are_judged_by_created_at_which_may_go_backwards() -> None:
    book = created()
    book.append(make("LEASE_ACQUIRED", created_at=START + 2 * TTL))
    assert book.refusal(make("LEASE_ACQUIRED", lease_owner_id="o", created_at=START)).reason_code == LEASE_HELD_BY_OTHER


# -- cancel


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


# -- expectation, correlation, bounds


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


@pytest.mark.parametrize(
    ("column", "event"),
    [
        ("fields_json", lambda i: make("FIELD_SET", payload=events.FieldSet(f"f{i}", "x"))),
        ("asked_fields_json", lambda i: make("FIELD_ASKED", payload=events.FieldAsked(f"f{i}", "same"))),
        (
            "resolved_fields_json",
            lambda i: make("FIELD_CONFLICT_RESOLVED", payload=events.FieldConflictResolved(f"f{i}", "x")),
        ),
    ],
)
def test_s5_a_json_column_holds_64_keys_and_no_more(column: str, event: object) -> None:
    book = Book()
    for i in range(64):
        assert book.append(event(i)) == Accepted()  # type: ignore[operator]
    expected = "fields_json" if column == "resolved_fields_json" else column
    assert book.refusal(event(64)).field == expected  # type: ignore[operator]
    assert book.append(event(0)) == Accepted(), "a key that is there already may change"  # type: ignore[operator]


def test_s5_missing_fields_holds_64_entries_and_no_more() -> None:
    names = [f"f{i}" for i in range(65)]
    assert (
        Book().append(make("WORK_ORDER_CREATED", payload=events.WorkOrderCreated("u", missing_fields=names[:64])))
        == Accepted()
    )
    assert (
        Book().refusal(make("WORK_ORDER_CREATED", payload=events.WorkOrderCreated("u", missing_fields=names))).field
        == "missing_fields_json"
    )


def test_s5_prompt_dedupe_keys_holds_256_keys_and_no_more() -> None:
    book = Book()
    for i in range(256):
        assert book.append(make("FIELD_ASKED", payload=events.FieldAsked("f", f"k{i}"))) == Accepted()
    assert book.refusal(make("FIELD_ASKED", payload=events.FieldAsked("f", "k256"))).field == "prompt_dedupe_keys_json"


def test_s5_a_json_column_holds_16_kib_and_no_more() -> None:
    book = Book()
    # {"f00":"<value>", ...}: 9 bytes of quotes and the like per entry, and the last one without its comma
    for i in range(8):
        book.append(make("FIELD_SET", payload=events.FieldSet(f"f{i:02}", "x" * 2000)))
    used = 2 + 8 * (2000 + 9) - 1
    left = 16 * 1024 - used - 9
    assert book.append(make("FIELD_SET", payload=events.FieldSet("f99", "x" * left))) == Accepted()
    assert book.refusal(make("FIELD_SET", payload=events.FieldSet("f99", "x" * (left + 1)))).field == "fields_json"


def test_a_refused_event_changes_nothing() -> None:
    book = created()
    before = book.state()
    book.refusal(make("FIELD_SET", turn_id=0))
    assert book.state() is before
