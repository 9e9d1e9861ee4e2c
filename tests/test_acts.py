"""The acts on a work order: each makes the event of its type, fills in what is known, and names itself where it can."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import asdict
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from core_tables import (
    Accepted,
    ContractError,
    CurrentRecord,
    LeaseClaim,
    Ledger,
    LedgerEvent,
    LedgerSettings,
    Refused,
    Replayed,
    WorkOrderEvents,
    WorkOrderHandle,
)
from core_tables.kafka.clients import header
from core_tables.producer.encoding import encode_checked
from core_tables.producer.natural_keys import natural_key
from core_tables.schemas.vocabulary import EVENT_TYPES, MAX_IDEMPOTENCY_KEY_BYTES

from .builders import PAYLOADS, START
from .world import World

LATER = START + 3_600_000_000_000
MINUTE = timedelta(minutes=1)
LEASE = LeaseClaim("owner-1", "token-1")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def of_order(**known: Any) -> WorkOrderEvents:
    given = {"correlation_id": 42, "turn_id": 7, "status": "CLARIFY", "reason_code": 3, "clock": lambda: START}
    return WorkOrderEvents("acme", "order-1", **{**given, **known})


def one_of_each(acts: WorkOrderEvents) -> Iterator[tuple[LedgerEvent, str]]:
    """The event of each act, and the key it must have."""
    created = acts.create(
        requester_user_id="ada",
        requester_speaker_id="speaker-1",
        device_id="device-1",
        session_id="session-1",
        process_id="process-1",
        blueprint_version="1.0",
        intent_type="BOOK",
        fields={"city": "Paris"},
        missing_fields=["date"],
    )
    yield created, "WORK_ORDER_CREATED"
    yield acts.set_field("date", "2026-01-01", idempotency_key="mine"), "mine"
    yield acts.resolve_field_conflict("city", "Rome", idempotency_key="mine"), "mine"
    yield acts.ask("date", prompt_dedupe_key="prompt-1"), "prompt-1"
    yield acts.change_status("CONFIRM", confirmation_state="PENDING", idempotency_key="mine"), "mine"
    second, backoff = timedelta(seconds=1), timedelta(milliseconds=50)
    started = acts.start_step("step-1", 0, timeout=second, max_retries=3, retry_backoff=backoff, lease=LEASE)
    yield started, "STEP_STARTED:step-1:0"
    yield acts.finish_step("step-1", 0, lease=LEASE), "STEP_FINISHED:step-1:0"
    yield acts.fail_step("step-1", 0, failure_reason_code=77, lease=LEASE), "STEP_FAILED:step-1:0"
    yield acts.schedule_retry("step-1", 1, next_retry_at=LATER, lease=LEASE, idempotency_key="mine"), "mine"
    yield acts.acquire_lease(*LEASE, ttl=MINUTE), f"LEASE_ACQUIRED:token-1:{START}"
    yield acts.renew_lease(*LEASE, ttl=MINUTE), f"LEASE_RENEWED:token-1:{START}"
    yield acts.release_lease(*LEASE), f"LEASE_RELEASED:token-1:{START}"
    asked = acts.request_approval("request-1", target_user_id="boss", expires_at=LATER)
    yield asked, "EXTERNAL_APPROVAL_REQUESTED:request-1"
    yield acts.resolve_approval("request-1", "APPROVED"), "EXTERNAL_APPROVAL_RESOLVED:request-1"
    yield acts.cancel(idempotency_key="mine"), "mine"


def test_each_act_makes_the_event_of_its_type_with_what_is_known() -> None:
    made = list(one_of_each(of_order()))
    assert [event.event_type for event, _ in made] == list(EVENT_TYPES)
    statuses = {"WORK_ORDER_CREATED": "DRAFT", "STATUS_CHANGED": "CONFIRM", "WORK_ORDER_CANCELED": "CANCELED"}
    for event, key in made:
        encode_checked(event)
        assert event.payload == PAYLOADS[event.event_type]
        assert event.idempotency_key == key
        assert (event.correlation_id, event.turn_id, event.reason_code, event.created_at) == (42, 7, 3, START)
        assert event.work_order_status == statuses.get(event.event_type, "CLARIFY")
        fenced = event.event_type.startswith(("STEP_", "LEASE_"))
        assert (event.lease_owner_id, event.lease_token_hash) == (LEASE if fenced else (None, None))
        assert event.step_id == ("step-1" if event.event_type.startswith("STEP_") else None)


def test_what_the_caller_says_counts_more_than_what_is_known() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    event = of_order().ask(
        "date",
        prompt_dedupe_key="p",
        idempotency_key="k",
        created_at=moment,
        turn_id=8,
        status="CONFIRM",
        reason_code=4,
        expected_last_event_id=5,
    )
    said = asdict(event)
    assert {name: said[name] for name in ("idempotency_key", "turn_id", "work_order_status", "reason_code")} == {
        "idempotency_key": "k",
        "turn_id": 8,
        "work_order_status": "CONFIRM",
        "reason_code": 4,
    }
    assert event.expected_last_event_id == 5
    assert event.created_at == 1_767_323_045_678_901_000
    created = of_order(turn_id=None).create(requester_user_id="ada", correlation_id=43, status="EXECUTING")
    assert (created.correlation_id, created.turn_id, created.work_order_status) == (43, 1, "EXECUTING")


@pytest.mark.parametrize(
    ("known", "field"),
    [
        ({"correlation_id": None}, "correlation_id"),
        ({"turn_id": None}, "turn_id"),
        ({"status": None}, "work_order_status"),
        ({"reason_code": None}, "reason_code"),
    ],
)
def test_what_nobody_said_is_named(known: dict[str, Any], field: str) -> None:
    with pytest.raises(ContractError, match="is not known of this work order") as refused:
        of_order(**known).ask("date", prompt_dedupe_key="p")
    assert refused.value.field == field


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ContractError, match="has no time zone") as refused:
        of_order().request_approval("r", target_user_id="boss", expires_at=datetime(2026, 1, 1))
    assert refused.value.field == "expires_at"


def test_a_key_given_blank_is_not_replaced() -> None:
    with pytest.raises(ContractError):
        encode_checked(of_order().finish_step("step-1", 0, idempotency_key=""))


def test_a_lease_asked_for_again_later_is_another_act() -> None:
    now = [START]
    acts = of_order(clock=lambda: now[0])
    first, again = acts.acquire_lease(*LEASE, ttl=MINUTE), acts.acquire_lease(*LEASE, ttl=MINUTE)
    now[0] += 1
    later = acts.acquire_lease(*LEASE, ttl=MINUTE)
    assert first.idempotency_key == again.idempotency_key != later.idempotency_key


def test_parts_too_long_for_a_key_are_hashed_and_stay_apart() -> None:
    keys = {natural_key("STEP_STARTED", "ü" * 48, attempt) for attempt in (1, 11)}
    keys |= {natural_key("EXTERNAL_APPROVAL_RESOLVED", "x" * 127 + end) for end in "yz"}
    keys |= {natural_key("STEP_STARTED", "a:1", 1), natural_key("STEP_STARTED", "a", 1)}
    assert len(keys) == 6
    assert all(len(key.encode()) <= MAX_IDEMPOTENCY_KEY_BYTES for key in keys)


@pytest.fixture
def ledger(world: World) -> Iterator[Ledger]:
    settings = world.settings
    given = LedgerSettings(settings.kafka_servers(), settings.reader(), settings.topic)
    with Ledger.connect(given, clock=lambda: START) as made, world.working():
        yield made


@pytest.mark.stack
def test_a_work_order_is_made_and_acted_on_by_whoever_opens_it(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    order = ledger.work_order("acts", "order-1", correlation_id=42, reason_code=1)
    receipts = [
        order.create(requester_user_id="ada", missing_fields=["city"]),
        order.ask("city", prompt_dedupe_key="order-1:city"),
        order.set_field("city", "Paris", idempotency_key="order-1:city:1", turn_id=2),
        order.change_status("EXECUTING", idempotency_key="order-1:go"),
        order.acquire_lease(*LEASE, ttl=MINUTE),
        order.start_step("step-1", 0, lease=LEASE),
    ]
    assert ledger.outcomes(receipts, 30) == [Accepted()] * len(receipts)

    current, asked = ledger.current, []

    def counted(tenant_id: str, work_order_id: str) -> CurrentRecord | None:
        asked.append(work_order_id)
        return current(tenant_id, work_order_id)

    monkeypatch.setattr(ledger, "current", counted)
    elsewhere = ledger.work_order("acts", "order-1", reason_code=2)
    finished = elsewhere.finish_step("step-1", 0, lease=LEASE)
    assert finished.outcome(30) == Accepted()
    said = finished.event
    assert (said.correlation_id, said.turn_id, said.work_order_status) == (42, 2, "EXECUTING")
    assert elsewhere.change_status("DONE", idempotency_key="order-1:done").outcome(30) == Accepted()
    assert asked == ["order-1"], "the record is read once"
    record = current("acts", "order-1")
    assert record is not None
    assert (record.work_order_status, record.fields_json) == ("DONE", {"city": "Paris"})


@pytest.mark.stack
def test_after_an_act_that_changed_nothing_the_record_is_read_again(ledger: Ledger) -> None:
    mine, theirs = (ledger.work_order("acts", "order-2", reason_code=1) for _ in range(2))
    assert mine.create(correlation_id=43, requester_user_id="ada").outcome(30) == Accepted()
    assert theirs.change_status("EXECUTING", idempotency_key="go").outcome(30) == Accepted()
    refused = mine.cancel(idempotency_key="stop").outcome(30)
    assert isinstance(refused, Refused)
    asked = mine.ask("city", prompt_dedupe_key="p")
    assert asked.event.work_order_status == "EXECUTING", "not CANCELED, which was refused"
    assert asked.outcome(30) == Accepted()
    assert isinstance(theirs.ask("city", prompt_dedupe_key="p").outcome(30), Replayed)
    assert theirs.ask("date", prompt_dedupe_key="q").outcome(30) == Accepted()


@pytest.mark.stack
def test_a_work_order_that_nobody_made_cannot_be_acted_on_unless_all_is_said(ledger: Ledger) -> None:
    with pytest.raises(ContractError, match="there is no such work order") as refused:
        ledger.work_order("acts", "nobody", reason_code=1).finish_step("step-1", 0)
    assert refused.value.field == "work_order_id"
    given = ledger.work_order("acts", "imported", correlation_id=44, turn_id=1, status="EXECUTING", reason_code=1)
    event = given.events().finish_step("step-1", 0)
    assert event.work_order_id == "imported"
    assert given.finish_step("step-1", 0).event == event


@pytest.mark.stack
def test_the_record_has_the_trace_that_was_given_or_that_of_the_current_span(world: World, ledger: Ledger) -> None:
    order: WorkOrderHandle = ledger.work_order("traces", "order-1", correlation_id=1, reason_code=1)
    of_span = SpanContext(
        int("4bf92f3577b34da6a3ce929d0e0e4736", 16), int("00f067aa0ba902b7", 16), False, TraceFlags(1)
    )
    with use_span(NonRecordingSpan(of_span)):
        receipts = [
            order.create(requester_user_id="ada"),
            order.ask("city", prompt_dedupe_key="p", traceparent=TRACE),
        ]
    receipts.append(order.ask("date", prompt_dedupe_key="q"))
    with pytest.raises(ContractError, match="W3C Trace Context"):
        order.ask("time", prompt_dedupe_key="r", traceparent=TRACE.upper())
    places = [receipt.place() for receipt in receipts]
    records = {message.offset(): message for message in world.messages(world.settings.topic)[places[0][0]]}
    found = [header(records[offset].headers(), "traceparent") for _, offset in places]
    assert found == [b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TRACE.encode(), None]
