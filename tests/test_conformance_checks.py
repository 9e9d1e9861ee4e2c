"""Conformance: the order of checks, replay and the limits (contract, sections 2 and 3)."""

from typing import Any

import pytest
from msgspec.structs import replace

from core_tables.consumer.audit_encoding import audit_of
from core_tables.producer.encoding import encode_checked
from core_tables.schemas import events
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Accepted, Refused, Replayed
from core_tables.schemas.reasons import (
    CONTRACT_VALIDATION_FAILED,
    LEASE_TTL_OUT_OF_BOUNDS,
    TENANT_SCOPE_VIOLATION,
    ContractError,
    UnknownSchemaError,
)
from core_tables.schemas.text import WHITE_SPACE
from core_tables.schemas.vocabulary import EVENT_TYPES, MAX_VALUE_BYTES, PARTITIONS, EventType
from core_tables.schemas.wire import MARKER, WRITER_FINGERPRINT, encode_event, lane_schemas

from .book import Book
from .builders import START, correlation_of, make

ACME = partition_of(b"acme", PARTITIONS)


def test_s2_the_schema_is_checked_before_the_body_and_the_key() -> None:
    unregistered = MARKER + bytes(8) + b"x" * MAX_VALUE_BYTES
    outcome = Book().append_record(b"other", unregistered, ACME)
    assert isinstance(outcome, Refused)
    assert (outcome.reason_code, outcome.field) == (CONTRACT_VALIDATION_FAILED, "schema")


def test_s2_the_marker_is_checked_before_the_schema() -> None:
    outcome = Book().append_record(b"acme", b"\xc3\x02" + bytes(8), ACME)
    assert isinstance(outcome, Refused)
    assert (outcome.reason_code, outcome.field) == (CONTRACT_VALIDATION_FAILED, None)


def test_s2_a_schema_counts_from_the_offset_on_at_which_it_is_registered() -> None:
    """What was refused before binds nothing: the same request is accepted afterwards."""
    book = Book(lane_schemas({WRITER_FINGERPRINT: 2}))
    outcomes = [book.append(make("FIELD_SET", idempotency_key="once")) for _ in range(4)]
    assert [outcome.field for outcome in outcomes if isinstance(outcome, Refused)] == ["schema", "schema"]
    assert outcomes[2:] == [Accepted(), Replayed(first_event_id=event_id_at(ACME, 2), request_differs=False)]


def test_s2_a_record_of_a_registered_schema_that_nobody_can_read_yet_has_no_outcome() -> None:
    book = Book(lane_schemas({"00" * 8: 0}))
    with pytest.raises(UnknownSchemaError, match="deploy a worker"):
        book.append_record(b"acme", MARKER + bytes(8), ACME)
    assert book.decided == []


def test_s2_body_is_checked_before_the_key() -> None:
    book = Book()
    outcome = book.append_record(b"other", encode_event(make("FIELD_SET"))[:-3], ACME)
    assert isinstance(outcome, Refused)
    assert outcome.reason_code == CONTRACT_VALIDATION_FAILED


def test_s2_the_key_is_checked_before_the_partition() -> None:
    outcome = Book().append_record(b"other", encode_event(make("FIELD_SET")), (ACME + 1) % PARTITIONS)
    assert isinstance(outcome, Refused)
    assert (outcome.reason_code, outcome.field) == (TENANT_SCOPE_VIOLATION, "tenant_id")
    assert "key" in outcome.sentence


def test_s2_the_partition_is_checked_before_the_work_order_id() -> None:
    outcome = Book().append_record(b"acme", encode_event(make("FIELD_SET", work_order_id="")), (ACME + 1) % PARTITIONS)
    assert isinstance(outcome, Refused)
    assert outcome.reason_code == TENANT_SCOPE_VIOLATION
    assert "partition" in outcome.sentence


def test_s2_a_malformed_idempotency_key_is_refused_before_the_rest() -> None:
    refusal = Book().refusal(make("FIELD_SET", idempotency_key=" ", turn_id=0))
    assert refusal.field == "idempotency_key"


@pytest.mark.parametrize("work_order_id", ["", " ", "x" * 129, "a\0b"], ids=["empty", "blank", "long", "U+0000"])
def test_s2_an_event_with_a_malformed_work_order_id_is_shown_without_it(work_order_id: str) -> None:
    """Its outcome and its audit event belong to the tenant, but carry no work order: none could have this id."""
    book = Book()
    assert book.refusal(make("FIELD_SET", work_order_id=work_order_id)).field == "work_order_id"
    decided = book.decided[-1]
    assert decided.tenant_id == "acme"
    assert decided.event == replace(make("FIELD_SET", work_order_id=work_order_id), work_order_id="")
    assert audit_of(decided).work_order_id is None


def test_s2_an_event_with_a_malformed_idempotency_key_is_shown_without_it() -> None:
    book = Book()
    book.refusal(make("FIELD_SET", idempotency_key=" "))
    event = book.decided[-1].event
    assert event is not None
    assert (event.work_order_id, event.idempotency_key) == ("order-1", None)


def test_s2_what_else_names_a_request_is_kept_when_its_work_order_id_is_malformed() -> None:
    book = Book()
    book.refusal(make("FIELD_SET", work_order_id=" ", idempotency_key="mine", turn_id=7))
    audit = audit_of(book.decided[-1])
    assert (audit.work_order_id, audit.idempotency_key, audit.turn_id) == (None, "mine", 7)
    assert (audit.event_type, audit.reason_code, audit.correlation_id) == ("FIELD_SET", 1, correlation_of("acme", " "))


def test_s2_a_replay_is_a_replay_even_when_its_body_would_be_refused() -> None:
    book = Book()
    book.append(make("WORK_ORDER_CREATED", idempotency_key="k"))
    first = book.last_id
    outcome = book.append(make("FIELD_SET", idempotency_key="k", turn_id=0, reason_code=0))
    assert outcome == Replayed(first, request_differs=True)


LEASED_STEP = make("STEP_STARTED", lease_owner_id="owner-1", lease_token_hash="token-1", idempotency_key="k")


@pytest.mark.parametrize(
    "same",
    [{}, {"created_at": START + 1}, {"turn_id": 9}, {"schema_version": 1}],
    ids=lambda changes: str(list(changes)),
)
def test_s5_a_replay_that_asks_for_the_same_says_so(same: dict[str, Any]) -> None:
    """When and in which turn a request is made once more is no decision of its caller."""
    book = Book()
    book.append(make("LEASE_ACQUIRED"), LEASED_STEP)
    first = book.last_id
    assert book.append(replace(LEASED_STEP, **same)) == Replayed(first, request_differs=False)


@pytest.mark.parametrize(
    "other",
    [
        {"event_type": "STEP_FINISHED", "payload": events.StepFinished(0)},
        {"work_order_status": "CONFIRM"},
        {"reason_code": 2},
        {"expected_last_event_id": 0},
        {"step_id": "step-2"},
        {"step_input_hash": None},
        {"lease_owner_id": "owner-2"},
        {"lease_token_hash": "token-2"},
        {"lease_expires_at": START},
        {"payload": events.StepStarted(1, 1000, 3, 50)},
        {"payload": events.StepStarted(0, 1000, 3)},
    ],
    ids=lambda changes: str(list(changes)),
)
def test_s5_a_replay_that_asks_for_anything_else_says_so(other: dict[str, Any]) -> None:
    book = Book()
    book.append(make("LEASE_ACQUIRED"), LEASED_STEP)
    first = book.last_id
    assert book.append(replace(LEASED_STEP, **other)) == Replayed(first, request_differs=True)


def test_s8_a_key_shared_by_start_and_finish_makes_the_finish_a_replay_and_says_so() -> None:
    book = Book()
    book.append(make("STEP_STARTED", idempotency_key="step"))
    outcome = book.append(make("STEP_FINISHED", idempotency_key="step"))
    assert outcome == Replayed(book.decided[0].event_id, request_differs=True)
    assert book.state().attempts["step-1", 0].status == "RUNNING"


def test_s2_a_true_and_a_one_are_different_payloads() -> None:
    book = Book()
    book.append(make("FIELD_SET", idempotency_key="k", payload=events.FieldSet("f", True)))
    outcome = book.append(make("FIELD_SET", idempotency_key="k", payload=events.FieldSet("f", 1)))
    assert isinstance(outcome, Replayed)
    assert outcome.request_differs


def test_s5_an_unknown_field_and_an_empty_one_are_different_payloads() -> None:
    book = Book()
    book.append(make("FIELD_SET", idempotency_key="k", payload=events.FieldSet("f", None)))
    outcome = book.append(make("FIELD_SET", idempotency_key="k", payload=events.FieldSet("f", "")))
    assert outcome == Replayed(book.decided[0].event_id, request_differs=True)


def test_s2_a_refused_record_does_not_bind_its_idempotency_key() -> None:
    book = Book()
    book.refusal(make("FIELD_SET", idempotency_key="k", turn_id=0))
    assert book.append(make("FIELD_SET", idempotency_key="k")) == Accepted()


def test_s2_the_same_key_of_another_work_order_or_tenant_is_no_replay() -> None:
    book = Book()
    book.append(make("FIELD_SET", idempotency_key="k"))
    assert book.append(make("FIELD_SET", idempotency_key="k", work_order_id="order-2")) == Accepted()
    assert book.append(make("FIELD_SET", idempotency_key="k", tenant_id="globex")) == Accepted()


def test_s2_the_rest_of_the_contract_is_checked_in_the_order_of_its_fields() -> None:
    wrong = {
        "schema_version": 2,
        "created_at": 0,
        "turn_id": 0,
        "reason_code": 0,
        "expected_last_event_id": -1,
        "step_id": " ",
        "step_input_hash": " ",
        "lease_owner_id": " ",
        "lease_token_hash": " ",
        "lease_expires_at": -1,
        "payload": events.StepFailed(-1, 0),
    }
    names = list(wrong)
    found = []
    for name in names:
        found.append(Book().refusal(make("STEP_FAILED", **wrong)).field)
        del wrong[name]
    assert found == [*names[:-1], "attempt_index"]


def test_s2_contract_rules_come_before_state_rules() -> None:
    refusal = Book().refusal(make("WORK_ORDER_CANCELED", reason_code=0))
    assert (refusal.reason_code, refusal.field) == (CONTRACT_VALIDATION_FAILED, "reason_code")


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_s4_a_valid_event_of_each_type_is_accepted(event_type: EventType) -> None:
    book = Book()
    if event_type != "WORK_ORDER_CREATED":
        book.append(make("WORK_ORDER_CREATED"))
    if event_type in ("LEASE_RENEWED", "LEASE_RELEASED"):
        book.append(make("LEASE_ACQUIRED"))
    assert book.append(make(event_type)) == Accepted()


WIDE = "\N{EURO SIGN}"  # three bytes of UTF-8
EDGES = [
    ("work_order_id", "x" * 128, "x" * 129),
    ("work_order_id", WIDE * 42 + "xx", WIDE * 43),
    ("idempotency_key", "x" * 128, "x" * 129),
    ("idempotency_key", WIDE * 42, WIDE * 43),
    ("step_id", "x" * 96, "x" * 97),
    ("step_id", WIDE * 32, WIDE * 33),
    ("step_input_hash", "x" * 128, "x" * 129),
    ("lease_owner_id", "x" * 128, "x" * 129),
    ("lease_owner_id", WIDE * 42, WIDE * 43),
    ("lease_token_hash", "x" * 128, "x" * 129),
    ("tenant_id", "x" * 64, "x" * 65),
    ("created_at", 1, 0),
    ("created_at", 2**63 - 1, -1),
    ("correlation_id", 1, 0),
    ("turn_id", 1, 0),
    ("turn_id", 2**63 - 1, -1),
    ("reason_code", 1, 0),
    ("reason_code", 2**32 - 1, 2**32),
    ("lease_expires_at", 2**63 - 1, -1),
    ("schema_version", 1, 2),
    ("expected_last_event_id", 0, -1),
]


@pytest.mark.parametrize(("field", "edge", "past"), EDGES)
def test_s3_each_limit_holds_at_its_edge_and_refuses_one_past_it(field: str, edge: Any, past: Any) -> None:
    book = Book()
    assert book.append(make("FIELD_SET", **{field: edge})) == Accepted()
    refusal = Book().refusal(make("FIELD_SET", **{field: past}))
    assert (refusal.reason_code, refusal.field) == (CONTRACT_VALIDATION_FAILED, field)


@pytest.mark.parametrize(("field", "past"), [(field, past) for field, _, past in EDGES])
def test_s3_the_producer_refuses_what_is_past_a_limit_before_anything_is_sent(field: str, past: Any) -> None:
    with pytest.raises(ContractError) as refusal:
        encode_checked(make("FIELD_SET", **{field: past}))
    assert (refusal.value.reason_code, refusal.value.field) == (CONTRACT_VALIDATION_FAILED, field)


@pytest.mark.parametrize(
    "changes",
    [
        {"correlation_id": 2**128},
        {"turn_id": 2**63},
        {"work_order_id": "\ud800"},
        {"work_order_id": None},
        {"payload": events.FieldSet("k", 1.5)},  # type: ignore[arg-type]
        {"payload": events.FieldSet("k", "x" * 21_000)},
        {"event_type": "NO_SUCH_TYPE"},
    ],
)
def test_s3_the_producer_refuses_what_no_schema_holds(changes: dict[str, Any]) -> None:
    with pytest.raises(ContractError):
        encode_checked(replace(make("FIELD_SET"), **changes))


def test_s3_correlation_id_reaches_to_2_to_the_128() -> None:
    book = Book()
    assert book.append(make("FIELD_SET", correlation_id=2**128 - 1)) == Accepted()
    assert book.state().identity.correlation_id == 2**128 - 1


TEXTS = [
    "tenant_id",
    "work_order_id",
    "idempotency_key",
    "step_id",
    "step_input_hash",
    "lease_owner_id",
    "lease_token_hash",
]


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\x85\u3000"])
def test_s3_no_text_may_be_blank(field: str, blank: str) -> None:
    refusal = Book().refusal(make("FIELD_SET", **{field: blank}))
    assert (refusal.reason_code, refusal.field) == (CONTRACT_VALIDATION_FAILED, field)


@pytest.mark.parametrize(
    ("event_type", "payload", "field"),
    [
        ("WORK_ORDER_CREATED", events.WorkOrderCreated(""), "requester_user_id"),
        ("WORK_ORDER_CREATED", events.WorkOrderCreated("u", intent_type=" "), "intent_type"),
        ("WORK_ORDER_CREATED", events.WorkOrderCreated("u", fields={" ": 1}), "fields"),
        ("WORK_ORDER_CREATED", events.WorkOrderCreated("u", fields={"a": " "}), "fields"),
        ("WORK_ORDER_CREATED", events.WorkOrderCreated("u", missing_fields=["a", ""]), "missing_fields"),
        ("FIELD_SET", events.FieldSet("", "x"), "field_key"),
        ("FIELD_SET", events.FieldSet("a", "\t"), "value"),
        ("FIELD_SET", events.FieldSet("a", "x", ["\u2028"]), "invalidated_prompt_dedupe_keys"),
        ("FIELD_CONFLICT_RESOLVED", events.FieldConflictResolved(" ", "x"), "field_key"),
        ("FIELD_ASKED", events.FieldAsked("a", ""), "prompt_dedupe_key"),
        ("STATUS_CHANGED", events.StatusChanged(missing_fields=[" "]), "missing_fields"),
        ("EXTERNAL_APPROVAL_REQUESTED", events.ExternalApprovalRequested(" ", "u", 1), "request_id"),
        ("EXTERNAL_APPROVAL_REQUESTED", events.ExternalApprovalRequested("r", "", 1), "target_user_id"),
        ("EXTERNAL_APPROVAL_RESOLVED", events.ExternalApprovalResolved("r", " "), "decision"),
    ],
)
def test_s3_no_text_of_a_payload_may_be_blank(event_type: EventType, payload: Any, field: str) -> None:
    refusal = Book().refusal(make(event_type, payload=payload))
    assert (refusal.reason_code, refusal.field) == (CONTRACT_VALIDATION_FAILED, field)
    assert "blank" in refusal.sentence


def test_s3_the_value_of_a_field_may_be_the_empty_text() -> None:
    book = Book()
    book.append(make("WORK_ORDER_CREATED", payload=events.WorkOrderCreated("u", fields={"a": ""})))
    book.append(make("FIELD_SET", payload=events.FieldSet("b", "")))
    assert book.append(make("FIELD_CONFLICT_RESOLVED", payload=events.FieldConflictResolved("c", ""))) == Accepted()
    assert book.state().collected.fields == {"a": "", "b": "", "c": ""}


def test_s3_white_space_is_unicodes() -> None:
    """Unicode 16, PropList: 25 code points. Python counts four more."""
    assert len(WHITE_SPACE) == 25
    assert {character for character in map(chr, range(0x110000)) if character.isspace()} - set(WHITE_SPACE) == set(
        "\x1c\x1d\x1e\x1f"
    )
    for character in WHITE_SPACE:
        assert Book().refusal(make("FIELD_SET", step_id=character)).field == "step_id"
    for character in "\x1c\x1d\x1e\x1f\u200b\ufeff":
        assert Book().append(make("FIELD_SET", step_id=character)) == Accepted()


def test_s3_no_tenant_has_the_name_that_stands_for_nobody() -> None:
    refusal = Book().refusal(make("FIELD_SET", tenant_id="_unattributed"))
    assert (refusal.reason_code, refusal.field) == (CONTRACT_VALIDATION_FAILED, "tenant_id")
    assert Book().append(make("FIELD_SET", tenant_id="_Unattributed")) == Accepted()


def test_s3_a_tenant_id_is_ascii() -> None:
    assert Book().refusal(make("FIELD_SET", tenant_id="caf\N{LATIN SMALL LETTER E WITH ACUTE}")).field == "tenant_id"


@pytest.mark.parametrize("field", TEXTS)
def test_s3_no_text_may_hold_nul(field: str) -> None:
    assert Book().refusal(make("FIELD_SET", **{field: "a\0b"})).field == field


@pytest.mark.parametrize(
    ("event_type", "payload", "field"),
    [
        ("FIELD_SET", events.FieldSet("a\0", "x"), "field_key"),
        ("FIELD_SET", events.FieldSet("a", "\0"), "value"),
        ("FIELD_SET", events.FieldSet("a", "x", ["\0"]), "invalidated_prompt_dedupe_keys"),
        ("WORK_ORDER_CREATED", events.WorkOrderCreated("u", fields={"a": "\0"}), "fields"),
        ("WORK_ORDER_CREATED", events.WorkOrderCreated("u", missing_fields=["\0"]), "missing_fields"),
        ("EXTERNAL_APPROVAL_RESOLVED", events.ExternalApprovalResolved("r", "\0"), "decision"),
    ],
)
def test_s3_no_text_of_a_payload_may_hold_nul(event_type: EventType, payload: Any, field: str) -> None:
    assert Book().refusal(make(event_type, payload=payload)).field == field


def test_s3_a_payload_holds_16384_bytes_and_no_more() -> None:
    # union branch, length of the key, the key, branch of the value, length of the value (three bytes), branch: 16 384
    fits = events.FieldSet("k", "x" * (16_384 - 1 - 2 - 1 - 3 - 1))
    assert Book().append(make("FIELD_SET", payload=fits)) == Accepted()
    refusal = Book().refusal(make("FIELD_SET", payload=events.FieldSet("k", str(fits.value) + "x")))
    assert (refusal.reason_code, refusal.field) == (CONTRACT_VALIDATION_FAILED, "payload")
    assert "16385 bytes" in refusal.sentence


@pytest.mark.parametrize(("attempt", "right"), [(0, True), (2**31 - 1, True), (-1, False), (2**31, False)])
def test_s4_attempt_index_is_from_0_to_2_to_the_31(attempt: int, right: bool) -> None:
    outcome = Book().append(make("STEP_FINISHED", payload=events.StepFinished(attempt)))
    assert isinstance(outcome, Accepted) == right


@pytest.mark.parametrize(("ttl", "right"), [(1, True), (300_000, True), (0, False), (300_001, False), (-1, False)])
@pytest.mark.parametrize("kind", [events.LeaseAcquired, events.LeaseRenewed])
def test_s2_a_lease_ttl_is_from_1_to_300000_ms(kind: Any, ttl: int, right: bool) -> None:
    book = Book()
    book.append(make("LEASE_ACQUIRED"))
    outcome = book.append(
        make("LEASE_ACQUIRED" if kind is events.LeaseAcquired else "LEASE_RENEWED", payload=kind(ttl))
    )
    if right:
        assert outcome == Accepted()
    else:
        assert isinstance(outcome, Refused)
        assert outcome.reason_code == LEASE_TTL_OUT_OF_BOUNDS


@pytest.mark.parametrize("event_type", [kind for kind in EVENT_TYPES if kind.startswith("STEP_")])
def test_s4_step_events_need_a_step_id(event_type: EventType) -> None:
    assert Book().refusal(make(event_type, step_id=None)).field == "step_id"


@pytest.mark.parametrize("event_type", [kind for kind in EVENT_TYPES if kind.startswith("LEASE_")])
@pytest.mark.parametrize("field", ["lease_owner_id", "lease_token_hash"])
def test_s4_lease_events_need_owner_and_token(event_type: EventType, field: str) -> None:
    assert Book().refusal(make(event_type, **{field: None})).field == field


@pytest.mark.parametrize("event_type", [kind for kind in EVENT_TYPES if kind.startswith("STEP_")])
@pytest.mark.parametrize(
    ("given", "missing"), [("lease_owner_id", "lease_token_hash"), ("lease_token_hash", "lease_owner_id")]
)
def test_s4_a_step_claims_a_lease_with_owner_and_token_or_not_at_all(
    event_type: EventType, given: str, missing: str
) -> None:
    refusal = Book().refusal(make(event_type, **{given: "x"}))
    assert (refusal.reason_code, refusal.field) == (CONTRACT_VALIDATION_FAILED, missing)


def test_s4_a_lease_expires_at_that_is_given_is_created_at_plus_ttl() -> None:
    right = START + 60_000 * 1_000_000
    assert Book().append(make("LEASE_ACQUIRED", lease_expires_at=right)) == Accepted()
    assert Book().refusal(make("LEASE_ACQUIRED", lease_expires_at=right + 1)).field == "lease_expires_at"


def test_s4_a_lease_may_not_expire_past_the_end_of_time() -> None:
    assert Book().refusal(make("LEASE_ACQUIRED", created_at=2**63 - 1)).field == "lease_expires_at"


@pytest.mark.parametrize("status", ["DRAFT", "CLARIFY", "CONFIRM", "EXECUTING"])
def test_s4_a_work_order_is_created_in_an_open_status(status: str) -> None:
    assert Book().append(make("WORK_ORDER_CREATED", work_order_status=status)) == Accepted()


@pytest.mark.parametrize("status", ["DONE", "REFUSED", "FAILED", "CANCELED"])
def test_s4_a_work_order_is_not_created_closed(status: str) -> None:
    assert Book().refusal(make("WORK_ORDER_CREATED", work_order_status=status)).field == "work_order_status"


def test_s4_a_cancel_carries_the_status_canceled_and_an_idempotency_key() -> None:
    assert Book().refusal(make("WORK_ORDER_CANCELED", work_order_status="DRAFT")).field == "work_order_status"
    assert Book().refusal(make("WORK_ORDER_CANCELED", idempotency_key=None)).field == "idempotency_key"


@pytest.mark.parametrize(
    "event_type",
    [kind for kind in EVENT_TYPES if kind not in ("STATUS_CHANGED", "LEASE_RELEASED", "WORK_ORDER_CANCELED")],
)
def test_s4_a_payload_with_required_fields_is_required(event_type: EventType) -> None:
    assert Book().refusal(make(event_type, payload=None)).field == "payload"


@pytest.mark.parametrize("event_type", ["STATUS_CHANGED", "LEASE_RELEASED", "WORK_ORDER_CANCELED"])
def test_s4_a_payload_without_required_fields_may_be_left_out(event_type: EventType) -> None:
    book = Book()
    book.append(make("WORK_ORDER_CREATED"), make("LEASE_ACQUIRED"))
    assert book.append(make(event_type, payload=None)) == Accepted()


def test_s2_a_sentence_never_quotes_a_value_of_another_tenant() -> None:
    for key, partition in ((b"other", ACME), (b"acme", (ACME + 1) % PARTITIONS)):
        outcome = Book().append_record(key, encode_event(make("FIELD_SET", work_order_id="secret-order")), partition)
        assert isinstance(outcome, Refused)
        assert "secret-order" not in outcome.sentence
        assert "acme" not in outcome.sentence
