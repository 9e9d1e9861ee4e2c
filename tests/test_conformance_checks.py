"""Conformance: the order of checks, replay and the limits (contract, sections 2 and 3)."""

from typing import Any

import pytest
from msgspec.structs import replace

from core_tables.producer.encoding import encode_checked
from core_tables.schemas import events
from core_tables.schemas.identity import partition_of
from core_tables.schemas.outcomes import Accepted, Refused, Replayed
from core_tables.schemas.reasons import (
    CONTRACT_VALIDATION_FAILED,
    LEASE_TTL_OUT_OF_BOUNDS,
    TENANT_SCOPE_VIOLATION,
    ContractError,
)
from core_tables.schemas.vocabulary import EVENT_TYPES, PARTITIONS, EventType
from core_tables.schemas.wire import encode_event

from .book import Book
from .builders import START, make

ACME = partition_of(b"acme", PARTITIONS)


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
def test_s2_an_event_with_a_malformed_work_order_id_is_shown_to_nobody(work_order_id: str) -> None:
    """Its outcome and its audit event belong to the tenant, but carry no work order: none could have this id."""
    book = Book()
    assert book.refusal(make("FIELD_SET", work_order_id=work_order_id)).field == "work_order_id"
    decided = book.decided[-1]
    assert (decided.tenant_id, decided.event) == ("acme", None)


def test_s2_an_event_with_a_malformed_idempotency_key_is_shown_without_it() -> None:
    book = Book()
    book.refusal(make("FIELD_SET", idempotency_key=" "))
    event = book.decided[-1].event
    assert event is not None
    assert (event.work_order_id, event.idempotency_key) == ("order-1", None)


def test_s2_a_replay_is_a_replay_even_when_its_body_would_be_refused() -> None:
    book = Book()
    book.append(make("WORK_ORDER_CREATED", idempotency_key="k"))
    first = book.last_id
    outcome = book.append(make("FIELD_SET", idempotency_key="k", turn_id=0, reason_code=0))
    assert outcome == Replayed(first, payload_differs=True)


def test_s2_a_replay_with_the_same_payload_says_so() -> None:
    book = Book()
    event = make("FIELD_SET", idempotency_key="k")
    book.append(event)
    assert book.append(replace(event, created_at=START + 1)) == Replayed(
        book.decided[0].event_id, payload_differs=False
    )


def test_s2_a_true_and_a_one_are_different_payloads() -> None:
    book = Book()
    book.append(make("FIELD_SET", idempotency_key="k", payload=events.FieldSet("f", True)))
    outcome = book.append(make("FIELD_SET", idempotency_key="k", payload=events.FieldSet("f", 1)))
    assert isinstance(outcome, Replayed)
    assert outcome.payload_differs


def test_s2_a_refused_record_does_not_bind_its_idempotency_key() -> None:
    book = Book()
    book.refusal(make("FIELD_SET", idempotency_key="k", turn_id=0))
    assert book.append(make("FIELD_SET", idempotency_key="k")) == Accepted()


def test_s2_the_same_key_of_another_work_order_or_tenant_is_no_replay() -> None:
    book = Book()
    book.append(make("FIELD_SET", idempotency_key="k"))
    assert book.append(make("FIELD_SET", idempotency_key="k", work_order_id="order-2")) == Accepted()
    assert book.append(make("FIELD_SET", idempotency_key="k", tenant_id="globex")) == Accepted()


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
        {"payload": events.FieldSet("k", "x" * 20_000)},
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


@pytest.mark.parametrize("field", ["tenant_id", "work_order_id", "idempotency_key"])
@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_s3_what_must_not_be_blank_is_refused_when_it_is(field: str, blank: str) -> None:
    refusal = Book().refusal(make("FIELD_SET", **{field: blank}))
    assert (refusal.reason_code, refusal.field) == (CONTRACT_VALIDATION_FAILED, field)


def test_s3_a_tenant_id_is_ascii() -> None:
    assert Book().refusal(make("FIELD_SET", tenant_id="caf\N{LATIN SMALL LETTER E WITH ACUTE}")).field == "tenant_id"


@pytest.mark.parametrize(
    "field",
    [
        "tenant_id",
        "work_order_id",
        "idempotency_key",
        "step_id",
        "step_input_hash",
        "lease_owner_id",
        "lease_token_hash",
    ],
)
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


def test_s3_a_payload_holds_2048_bytes_and_no_more() -> None:
    # union branch, length of the key, the key, union branch of the value, length of the value (two bytes), branch: 2048
    fits = events.FieldSet("k", "x" * (2048 - 1 - 2 - 1 - 2 - 1))
    assert Book().append(make("FIELD_SET", payload=fits)) == Accepted()
    refusal = Book().refusal(make("FIELD_SET", payload=events.FieldSet("k", str(fits.value) + "x")))
    assert (refusal.reason_code, refusal.field) == (CONTRACT_VALIDATION_FAILED, "payload")


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
