"""The appending side: what it refuses to send, what it survives while it waits, and what threads may share."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from msgspec.structs import replace

from core_tables.producer import Ledger, LedgerSettings, Receipt
from core_tables.producer.deliveries import Deliveries
from core_tables.producer.encoding import encode_checked
from core_tables.schemas import events
from core_tables.schemas.events import Payload, SizedEvent
from core_tables.schemas.identity import lane_of, partition_of
from core_tables.schemas.outcomes import Accepted, Refused, Replayed
from core_tables.schemas.reasons import CANCEL_INVALID_STATE, ClosedError, ContractError, SetupError, UnavailableError
from core_tables.schemas.vocabulary import PARTITIONS, EventType
from core_tables.schemas.wire import decode_event, encode_event

from .book import Book
from .builders import PAYLOADS, START, make
from .world import World, wait_until

ACME = partition_of(b"acme", PARTITIONS)
READERS_SESSIONS = (
    "from pg_stat_activity where datname = current_database() "
    "and application_name in ('core-tables listener', 'core-tables outcomes')"
)


@pytest.mark.parametrize(
    ("event_type", "payload"),
    [
        ("FIELD_CONFLICT_RESOLVED", PAYLOADS["FIELD_SET"]),
        ("FIELD_SET", PAYLOADS["FIELD_CONFLICT_RESOLVED"]),
        ("STEP_FINISHED", PAYLOADS["STEP_STARTED"]),
        ("LEASE_RELEASED", PAYLOADS["LEASE_ACQUIRED"]),
        ("WORK_ORDER_CANCELED", PAYLOADS["STATUS_CHANGED"]),
        ("FIELD_SET", {"field_key": "k", "value": "v"}),
    ],
)
def test_a_payload_of_another_type_is_refused_before_anything_is_sent(event_type: EventType, payload: Payload) -> None:
    with pytest.raises(ContractError) as refusal:
        encode_checked(make(event_type, payload=payload))
    assert refusal.value.field == "payload"


@pytest.mark.parametrize(
    ("change", "field", "allowed"),
    [
        ({"created_at": 1_795_722_269.5}, "created_at", "a whole number, not a number with decimals"),
        ({"turn_id": 2.0}, "turn_id", "a whole number"),
        ({"reason_code": True}, "reason_code", "a whole number, not a boolean"),
        ({"event_type": "STATUS_CHANGE"}, "event_type", "one of WORK_ORDER_CREATED"),
        ({"work_order_status": None}, "work_order_status", "required"),
        ({"correlation_id": "42"}, "correlation_id", "Expected int, got str"),
        ({"tenant_id": b"acme"}, "tenant_id", "a string"),
        ({"expected_last_event_id": "0"}, "expected_last_event_id", "a whole number, not a string"),
        ({"payload": events.FieldSet("a", 1.5)}, "value", "a string, a whole number or a boolean"),  # type: ignore[arg-type]
        ({"payload": events.FieldSet("a", "b", "key")}, "invalidated_prompt_dedupe_keys", "an array of strings"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_field_and_what_is_allowed(
    change: dict[str, Any], field: str, allowed: str
) -> None:
    """The encoder would take each of them, as another value."""
    with pytest.raises(ContractError, match=re.escape(allowed)) as refusal:
        encode_checked(replace(make("FIELD_SET"), **change))
    assert refusal.value.field == field


def test_any_sequence_and_mapping_is_taken_for_the_values_that_it_holds() -> None:
    payload = events.WorkOrderCreated("ada", fields=MappingProxyType({"n": 1, "b": True}), missing_fields=("city",))
    content = decode_event(encode_checked(make("WORK_ORDER_CREATED", payload=payload)))
    assert isinstance(content, SizedEvent)
    assert content.event.payload == events.WorkOrderCreated("ada", fields={"n": 1, "b": True}, missing_fields=["city"])


def test_a_payload_of_another_types_branch_is_refused_when_it_comes_over_the_wire() -> None:
    def cut(event_type: EventType) -> tuple[bytes, bytes]:
        """An event's bytes before its payload, and those of the payload; null takes one byte."""
        head = encode_event(make(event_type, payload=None))[:-1]
        return head, encode_event(make(event_type))[len(head) :]

    (head, own), (_, other) = cut("FIELD_SET"), cut("FIELD_CONFLICT_RESOLVED")
    book = Book()
    assert book.append_record(b"acme", head + own, ACME) == Accepted()
    outcome = book.append_record(b"acme", head + other, ACME)
    assert isinstance(outcome, Refused)
    assert outcome.field == "payload"


@pytest.fixture
def ledger(world: World) -> Iterator[Ledger]:
    """A ledger of the module's world, as a program connects one."""
    made = Ledger.connect(ledger_settings(world))
    yield made
    made.close()


def ledger_settings(world: World, **kafka: str) -> LedgerSettings:
    return LedgerSettings(world.settings.kafka_servers(), world.settings.reader(), world.settings.topic, kafka)


@pytest.mark.stack
def test_a_ledger_is_closed_at_the_end_of_its_block(world: World) -> None:
    with Ledger.connect(ledger_settings(world)) as made:
        receipt = made.append(make("WORK_ORDER_CREATED", tenant_id="blocks"))
    assert receipt.delivered
    with pytest.raises(ClosedError):
        made.append(make("FIELD_SET", tenant_id="blocks"))


@pytest.mark.stack
def test_threads_of_two_tenants_cancel_and_await_through_one_ledger(world: World, ledger: Ledger) -> None:
    orders = [(tenant, f"order-{number}") for number in range(24) for tenant in ("threads-1", "threads-2")]

    def cancel(order: tuple[str, str]) -> tuple[int, object, object]:
        receipt = ledger.cancel(*order, 7, "once")
        return receipt.event_id(), receipt.outcome(30), ledger.cancel(*order, 7, "once").outcome(30)

    created = [
        make("WORK_ORDER_CREATED", tenant_id=tenant, work_order_id=order, correlation_id=number)
        for number, (tenant, order) in enumerate(orders, start=1)
    ]
    with world.working(), ThreadPoolExecutor(8) as pool:
        world.append(*created)
        for event_id, first, second in pool.map(cancel, orders):
            assert (first, second) == (Accepted(), Replayed(event_id, request_differs=False))


@pytest.mark.stack
def test_a_refusal_by_the_broker_is_told_as_one_with_its_cause(fresh: World) -> None:
    """Sent again, it would be refused again: nothing is unknown about it."""
    fresh.set_topic(fresh.settings.topic, "message.timestamp.before.max.ms", "1")
    fresh.set_topic(fresh.settings.topic, "message.timestamp.after.max.ms", "1")
    ledger = Ledger.connect(ledger_settings(fresh))

    def refusal() -> SetupError | None:
        try:
            ledger.append(make("FIELD_SET")).event_id()
        except SetupError as error:
            return error
        return None  # written within the millisecond

    error = wait_until(refusal, "the broker to refuse a record for its time")
    assert "clock" in error.message
    assert "not known" not in error.message
    ledger.close()


@pytest.mark.stack
def test_an_answer_that_an_interrupt_took_is_not_waited_for(
    world: World, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python runs signal handlers in the callbacks of the client, too, and one that raises ends them."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Receipt, "settle", interrupted)
        receipt = ledger.append(make("FIELD_SET", tenant_id="interrupted"))
        with pytest.raises(KeyboardInterrupt):
            receipt.event_id()
    for _ in range(2):
        with pytest.raises(UnavailableError, match="was interrupted when the answer came"):
            receipt.event_id(30)
        with world.working():
            assert world.outcome(make("FIELD_SET", tenant_id="interrupted")) == Accepted()
            assert ledger.append(make("FIELD_SET", tenant_id="interrupted")).outcome(30) == Accepted()


def test_an_interrupt_that_the_client_loses_is_raised_all_the_same() -> None:
    """A signal that comes just before the client reports an error ends its poll like this."""

    class Losing(Producer):
        def poll(self, _: float = -1) -> int:
            raise SystemError("<method 'poll'> returned NULL without setting an exception")

    with pytest.raises(KeyboardInterrupt):
        Deliveries(lambda: Losing({"bootstrap.servers": "127.0.0.1:1"})).serve(1)


@pytest.mark.stack
def test_many_outcomes_are_awaited_together_in_the_order_of_their_receipts(world: World, ledger: Ledger) -> None:
    receipts = [
        ledger.append(make("FIELD_SET", tenant_id=f"bulk-{n % 5}", turn_id=n + 1, idempotency_key=f"k{n // 10}"))
        for n in range(100)
    ]
    assert len({receipt.event_id() for receipt in receipts}) == 100, "the broker has them all"
    assert ledger.outcomes(receipts, 0.2) == [None] * 100
    with world.working():
        outcomes = ledger.outcomes(receipts, 30)
    firsts: dict[tuple[str, str | None], int] = {}
    for receipt, outcome in zip(receipts, outcomes, strict=True):
        first = firsts.setdefault((receipt.event.tenant_id, receipt.event.idempotency_key), receipt.event_id())
        assert outcome == (Accepted() if first == receipt.event_id() else Replayed(first, request_differs=False))


@pytest.mark.stack
def test_an_outcome_arrives_though_every_session_of_the_reader_was_terminated(fresh: World) -> None:
    ledger = Ledger.connect(ledger_settings(fresh))
    event = make("WORK_ORDER_CREATED")
    assert ledger.reads().current("acme", "order-1") is None
    receipt = ledger.append(event)
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(receipt.outcome, 60)
        for _ in range(3):
            fresh.admin.execute(f"select pg_terminate_backend(pid) {READERS_SESSIONS}".encode())
            threading.Event().wait(0.4)
        assert not outcome.done()
        with fresh.working():
            assert outcome.result() == Accepted()
    assert ledger.reads().current("acme", "order-1") is not None, "a session that was ended is opened again"
    names = f"select count(*) {READERS_SESSIONS} and application_name = 'core-tables listener'".encode()
    wait_until(lambda: fresh.admin.execute(names).fetchall() == [(1,)], "the listener to listen again")
    ledger.close()


@pytest.mark.stack
def test_while_the_database_is_away_an_outcome_is_tried_until_its_deadline(fresh: World) -> None:
    ledger = Ledger.connect(ledger_settings(fresh))
    receipt = ledger.append(make("WORK_ORDER_CREATED"))
    receipt.event_id()  # or a slow broker is what the first second waits for
    server = psycopg.connect(fresh.stack.postgres_dsn, autocommit=True)
    server.execute(f"alter database {fresh.name} allow_connections false".encode())
    fresh.admin.execute(f"select pg_terminate_backend(pid) {READERS_SESSIONS}".encode())
    with pytest.raises(UnavailableError, match="Postgres"):
        receipt.outcome(1)
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(receipt.outcome, 60)
        threading.Event().wait(0.5)
        server.execute(f"alter database {fresh.name} allow_connections true".encode())
        with fresh.working():
            assert outcome.result() == Accepted()
    server.close()
    ledger.close()


@pytest.mark.stack
def test_a_notification_that_is_not_true_neither_ends_nor_misleads_the_waiting(fresh: World) -> None:
    ledger = Ledger.connect(ledger_settings(fresh))
    receipt = ledger.append(make("WORK_ORDER_CREATED"))
    lane = lane_of(receipt.event_id())
    for payload in ("nonsense", "", f"{lane}:x", f"{lane}:999999"):
        fresh.admin.execute("select pg_notify('core_tables', %s)", (payload,))
    assert receipt.outcome(1) is None
    with fresh.working():
        assert receipt.outcome(30) == Accepted()
    ledger.close()


@pytest.mark.stack
def test_a_cancel_right_after_a_create_waits_until_the_create_is_folded(fresh: World) -> None:
    ledger = Ledger.connect(ledger_settings(fresh))
    ledger.append(make("WORK_ORDER_CREATED")).event_id()
    with ThreadPoolExecutor(1) as pool:
        cancel = pool.submit(ledger.cancel, "acme", "order-1", 7, "k", START, timeout=60)
        with fresh.working():
            assert cancel.result().outcome(30) == Accepted()
    ledger.close()


@pytest.mark.stack
def test_a_cancel_of_what_is_not_folded_in_time_is_unknown_and_nothing_is_sent(fresh: World) -> None:
    ledger = Ledger.connect(ledger_settings(fresh))
    created = ledger.append(make("WORK_ORDER_CREATED"))
    created.event_id()
    with pytest.raises(UnavailableError, match="not known whether the work order exists"):
        ledger.cancel("acme", "order-1", 7, "k", timeout=4)
    with fresh.working():
        assert created.outcome(30) == Accepted()
        fresh.drain()
    assert [entry.event.event_type for entry in ledger.reads().ledger("acme")] == ["WORK_ORDER_CREATED"]
    ledger.close()


@pytest.mark.stack
@pytest.mark.parametrize("end", ["commit_transaction", "abort_transaction"])
def test_a_cancel_does_not_wait_for_the_gap_that_a_log_ends_in(fresh: World, end: str) -> None:
    """Nobody folds what a transaction leaves at the end of a log: the broker's own record, and those that were aborted."""
    ledger = Ledger.connect(ledger_settings(fresh))
    settings = {"bootstrap.servers": fresh.stack.bootstrap_servers, "transactional.id": f"{fresh.name}-foreign"}
    foreign = Producer(settings)
    foreign.init_transactions(20)
    foreign.begin_transaction()
    foreign.produce(fresh.settings.topic, encode_event(make("WORK_ORDER_CREATED")), b"acme", ACME)
    foreign.flush(20)
    getattr(foreign, end)(20)
    ended: list[str | None] = []

    def cancel(order: str) -> None:
        try:
            ledger.cancel("acme", order, 7, order, START, timeout=600)
            ended.append("sent")
        except ContractError as error:
            ended.append(error.reason_code)

    with fresh.working():
        # What a transaction committed is awaited, though the log's end is not reached by it.
        wanted = ["sent" if end == "commit_transaction" else CANCEL_INVALID_STATE]
        threading.Thread(target=cancel, args=("order-1",), daemon=True).start()
        wait_until(lambda: ended == wanted, "the cancel to end long before its timeout")
    ledger.close()


@pytest.mark.stack
def test_no_setting_of_the_client_changes_where_a_tenant_belongs(world: World) -> None:
    ledger = Ledger.connect(
        ledger_settings(world, partitioner="consistent", acks="0", **{"enable.idempotence": "false"})
    )
    for number in range(20):
        tenant = f"placed-{number}"
        event_id = ledger.append(make("FIELD_SET", tenant_id=tenant)).event_id()
        assert lane_of(event_id) == partition_of(tenant.encode(), PARTITIONS)
    ledger.close()
