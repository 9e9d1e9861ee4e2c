"""Conformance: what each event does to a work order, and the state rules (contract, sections 2, 4 and 5)."""

import pytest
from msgspec.structs import replace

from core_tables.projection.fold.work_order import ActiveStep, Approval, Origin
from core_tables.schemas import events
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
    assert book.state().approval == replace(pending, pending=False)


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
    assert (lease.lease_state, lease.expires_at, lease.granted_event_id) == ("ACTIVE", START + TTL, book.last_id)


def test_s2_a_lease_held_by_another_is_refused_until_it_expires() -> None:
    book = created()
    book.append(make("LEASE_ACQUIRED"))
    refusal = book.refusal(make("LEASE_ACQUIRED", lease_owner_id="owner-2", created_at=START + TTL - 1))
    assert refusal.reason_code == LEASE_HELD_BY_OTHER
    assert book.append(make("LEASE_ACQUIRED", lease_owner_id="owner-2", created_at=START + TTL)) == Accepted()
    (expired,) = book.state().closed_leases
    assert (expired.lease_state, expired.ended_at) == ("EXPIRED", START + TTL)


def test_s5_an_acquire_by_the_same_owner_extends_under_the_new_token() -> None:
    book = created()
    book.append(make("LEASE_ACQUIRED"))
    granted = book.last_id
    book.append(make("LEASE_ACQUIRED", lease_token_hash="token-2", created_at=START + 5))
    lease = book.state().lease
    assert lease is not None
    assert (lease.granted_event_id, lease.lease_token_hash, lease.expires_at) == (granted, "token-2", START + 5 + TTL)
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
    wrong_owner = book.refusal(make(event_type, lease_owner_id="other"))  # type: ignore[arg-type]
    assert (wrong_owner.reason_code, wrong_owner.field) == (LEASE_TOKEN_INVALID, "lease_owner_id")
    late = book.refusal(make(event_type, created_at=START + TTL))  # type: ignore[arg-type]
    assert late.reason_code == LEASE_NOT_FOUND
    assert book.append(make(event_type)) == Accepted()  # type: ignore[arg-type]


def test_s4_a_renewed_lease_lasts_from_the_renewal() -> None:
    book = created()
    book.append(make("LEASE_ACQUIRED"), make("LEASE_RENEWED", created_at=START + 7))
    lease = book.state().lease
    assert lease is not None
    assert lease.expires_at == START + 7 + TTL


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
