"""Conformance: what is known of a work order, its status and fields, and how much a column holds (contract, sections 4 and 5)."""

import pytest

from core_tables.projection.fold.work_order import Origin
from core_tables.schemas import events
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import CONTRACT_VALIDATION_FAILED

from .book import Book, created
from .builders import START, make


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
