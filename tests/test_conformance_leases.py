"""Conformance: leases, and steps that claim one (contract, sections 2, 4 and 5)."""

from typing import Any

import pytest
from msgspec.structs import replace

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

from .book import Book, created
from .builders import START, make

TTL = 60_000 * 1_000_000  # ns


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
