"""Bad records on the topic: each gets an outcome row and an audit event, and the lane continues."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core_tables.schemas.audit import decode_audit
from core_tables.schemas.events import AuditEvent
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import CONTRACT_VALIDATION_FAILED, TENANT_SCOPE_VIOLATION
from core_tables.schemas.vocabulary import UNATTRIBUTED, EventType
from core_tables.schemas.wire import encode_event

from .builders import START, make, tenant_of_lane
from .raw_produce import produce_raw
from .world import World

pytestmark = pytest.mark.stack

ACME = partition_of(b"acme", 12)
VALID = encode_event(make("FIELD_SET"))


@pytest.fixture(scope="module", autouse=True)
def _worker(world: World) -> Iterator[None]:
    with world.working() as running:
        yield
    assert running.errors == []


def fate(
    world: World, key: bytes | None, value: bytes | None, partition: int = ACME
) -> tuple[tuple[Any, ...], AuditEvent]:
    """Produce a record and a good one behind it; the outcome row and the audit event of the first."""
    event_id = event_id_at(partition, world.produce(key, value, partition))
    tenant = tenant_of_lane(partition)
    behind = make("FIELD_SET", tenant_id=tenant)
    assert world.outcome(behind) == Accepted(), "the lane continues"
    world.drain()
    (row,) = world.admin.execute(
        "select tenant_id, work_order_id, outcome, reason_code, field, sentence, "
        "event_type, correlation_id::text, turn_id, idempotency_key, created_at "
        "from os_core.work_order_outcomes where event_id = %s",
        (event_id,),
    ).fetchall()
    (audit,) = [found for found in world.audit_events()[partition] if found.event_id == event_id]
    assert (audit.tenant_id, audit.outcome, audit.outcome_reason) == (row[0], row[2], row[3])
    assert audit.payload_min["sentence"] == row[5]
    correlation_id = None if audit.correlation_id is None else str(audit.correlation_id)
    request = (audit.event_type, correlation_id, audit.turn_id, audit.idempotency_key)
    assert row[6:10] == request, "table and audit event keep the same of the request"
    assert row[10] in (None, audit.created_at)
    return row, audit


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "no value"),
        (b"", "C3 01"),
        (b"\x00" + VALID[1:], "C3 01"),
        (b"\xc3\x02" + VALID[2:], "C3 01"),
        (VALID[:9], "C3 01"),
        (VALID[:10], "ends before"),
        (VALID[:-1], "ends before"),
        (VALID + b"\0", "left over after the record: 1"),
        (VALID + b"x" * 20_480, "at most 20480"),
        (b"{}", "C3 01"),
    ],
    ids=[
        "null",
        "empty",
        "marker 1",
        "marker 2",
        "no fingerprint",
        "no body",
        "truncated",
        "trailing",
        "too long",
        "json",
    ],
)
def test_an_unreadable_record_is_refused_and_belongs_to_the_tenant_of_its_key(
    world: World, value: bytes | None, words: str
) -> None:
    row, audit = fate(world, b"acme", value)
    assert row[:5] == ("acme", None, "REFUSED", CONTRACT_VALIDATION_FAILED, None)
    assert words in row[5]
    assert audit.severity == "WARN"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda body: body.replace(b"order-1", b"order-\xff"), "UTF-8"),
        (lambda body: body.replace(b"order-1", b"or\xed\xa0\x80-1"), "UTF-8"),  # a lone surrogate
        (lambda body: b"\x80" * 11 + body, "64 bits"),
        (lambda body: b"\xfe\xff\xff\xff\xff\x1f" + body[1:], "32 bits"),
    ],
    ids=["not UTF-8", "lone surrogate", "endless number", "int of 40 bits"],
)
def test_a_damaged_body_is_refused(world: World, damage: Any, words: str) -> None:
    row, _ = fate(world, b"acme", VALID[:10] + damage(VALID[10:]))
    assert row[3] == CONTRACT_VALIDATION_FAILED
    assert words in row[5]


def test_an_unknown_enum_symbol_is_refused(world: World) -> None:
    correlation = make("FIELD_SET").correlation_id.to_bytes(16, "big")
    at = VALID.index(correlation) + 16 + 1  # turn_id takes one byte, event_type follows
    row, _ = fate(world, b"acme", VALID[:at] + bytes([2 * 15]) + VALID[at + 1 :])
    assert "EventType has number 15" in row[5]


def test_a_record_of_a_schema_that_is_not_registered_is_refused_and_stops_no_lane(world: World) -> None:
    row, audit = fate(world, b"acme", b"\xc3\x01" + bytes(8))
    assert row[:5] == ("acme", None, "REFUSED", CONTRACT_VALIDATION_FAILED, "schema")
    assert "0000000000000000 was not registered" in row[5]
    assert audit.payload_min["field"] == "schema"


def test_a_record_of_one_mebibyte_is_refused(world: World) -> None:
    world.set_topic(world.settings.topic, "max.message.bytes", "2000000")
    row, _ = fate(world, b"acme", VALID + b"x" * 2**20)
    assert row[3] == CONTRACT_VALIDATION_FAILED
    assert "at most 20480" in row[5]


def test_a_key_that_is_not_the_tenant_is_a_scope_violation_of_the_key(world: World) -> None:
    stranger = tenant_of_lane(ACME, "stranger-")
    row, audit = fate(world, stranger.encode(), VALID)
    assert row[:5] == (stranger, None, "REFUSED", TENANT_SCOPE_VIOLATION, "tenant_id")
    assert (audit.work_order_id, audit.idempotency_key, audit.correlation_id) == (None, None, None)
    assert audit.severity == "ERROR"


@pytest.mark.parametrize("key", [None, b"", b"\xff\xfe", b" ", b"x" * 65])
def test_a_key_that_is_no_tenant_leaves_the_record_unattributed(world: World, key: bytes | None) -> None:
    row, _ = fate(world, key, VALID)
    assert row[0] == UNATTRIBUTED
    assert row[3] == TENANT_SCOPE_VIOLATION


def test_a_record_in_the_wrong_partition_is_unattributed(world: World) -> None:
    row, _ = fate(world, b"acme", VALID, (ACME + 1) % 12)
    assert row[0] == UNATTRIBUTED
    assert row[3] == TENANT_SCOPE_VIOLATION
    assert f"partition {ACME}" in row[5]


def test_a_malformed_tenant_is_unattributed_and_its_text_is_stored_nowhere(world: World) -> None:
    tenant = "a\0b"
    partition = partition_of(tenant.encode(), 12)
    row, _ = fate(world, tenant.encode(), encode_event(make("FIELD_SET", tenant_id=tenant)), partition)
    assert row[:5] == (UNATTRIBUTED, None, "REFUSED", CONTRACT_VALIDATION_FAILED, "tenant_id")


@pytest.mark.parametrize(
    ("field", "value", "work_order_id"),
    [("work_order_id", "x" * 129, None), ("work_order_id", "a\0", None), ("idempotency_key", "k" * 129, "order-1")],
)
def test_a_malformed_key_field_is_refused_before_anything_is_looked_up(
    world: World, field: str, value: str, work_order_id: str | None
) -> None:
    row, audit = fate(world, b"acme", encode_event(make("FIELD_SET", **{field: value})))
    assert row[:5] == ("acme", work_order_id, "REFUSED", CONTRACT_VALIDATION_FAILED, field)
    assert audit.idempotency_key is None
    assert (audit.event_type, audit.turn_id, audit.reason_code) == ("FIELD_SET", 1, 1)


def test_a_contract_failure_keeps_what_identifies_the_request(world: World) -> None:
    row, audit = fate(world, b"acme", encode_event(make("FIELD_SET", step_id="x" * 97, idempotency_key="mine")))
    assert row[:5] == ("acme", "order-1", "REFUSED", CONTRACT_VALIDATION_FAILED, "step_id")
    assert (audit.work_order_id, audit.idempotency_key, audit.event_type) == ("order-1", "mine", "FIELD_SET")
    assert (audit.step_id, audit.status_before, audit.status_after) == ("x" * 97, None, None)
    assert row[10] == START


def test_the_traceparent_header_goes_on_to_the_audit_event_and_others_are_ignored(world: World) -> None:
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    world.produce(b"acme", VALID, ACME, traceparent=trace, other=b"x")
    world.drain()
    headers = [message.headers() for message in world.audit_messages(ACME)]
    assert headers[-1] == [("traceparent", trace)]
    world.produce(b"acme", VALID, ACME, traceparent=b"\x1b]0;of another form\x07" * 3)
    world.drain()
    assert world.audit_messages(ACME)[-1].headers() is None


def test_everything_below_applied_has_one_outcome_and_verify_agrees(world: World) -> None:
    world.drain()
    assert world.verify().differences == []
    ids = [audit.event_id for audits in world.audit_events().values() for audit in audits]
    stored = world.admin.execute(
        "select work_order_event_id from os_core.work_order_ledger union all select event_id from os_core.work_order_outcomes"
    ).fetchall()
    assert sorted(ids) == sorted(row[0] for row in stored)


@pytest.mark.parametrize(
    ("event_type", "field"),
    [
        *((kind, "step_id") for kind in ("STEP_STARTED", "STEP_FINISHED", "STEP_FAILED", "STEP_RETRY_SCHEDULED")),
        *((kind, "lease_owner_id") for kind in ("LEASE_ACQUIRED", "LEASE_RENEWED", "LEASE_RELEASED")),
        ("STEP_STARTED", "step_input_hash"),
        ("WORK_ORDER_CANCELED", "idempotency_key"),
    ],
)
def test_a_nul_in_any_text_is_refused_before_a_statement_asks_for_it(
    world: World, event_type: EventType, field: str
) -> None:
    row, _ = fate(world, b"acme", encode_event(make(event_type, **{field: "a\0b"})))
    assert row[3:5] == (CONTRACT_VALIDATION_FAILED, field)


def test_a_header_as_large_as_the_broker_takes_stays_out_of_the_audit_topic(world: World) -> None:
    offset = world.produce(b"acme", VALID, ACME, traceparent=b"x" * 900_000)
    world.drain()
    (message,) = [
        found
        for found in world.audit_messages(ACME)
        if decode_audit(found.value() or b"").event_id == event_id_at(ACME, offset)
    ]
    assert message.headers() is None


def test_a_header_whose_name_is_not_text_costs_the_record_its_trace_and_no_more(world: World) -> None:
    """The client decodes the names of headers. Where the interpreter has specialized the call, after some records with headers, it
    hands out a broken list instead of an exception."""
    trace = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    topic, servers = world.settings.topic, world.stack.bootstrap_servers
    for _ in range(40):
        world.produce(b"acme", VALID, ACME, some=b"header")
    event = make("FIELD_SET", idempotency_key="under a strange header")
    event_id = event_id_at(
        ACME, produce_raw(servers, topic, ACME, b"acme", encode_event(event), [(b"\xff\xfe", b"?"), trace])
    )
    assert world.outcome(make("FIELD_SET")) == Accepted(), "the lane continues"
    world.drain()
    (message,) = [
        found for found in world.audit_messages(ACME) if decode_audit(found.value() or b"").event_id == event_id
    ]
    assert decode_audit(message.value() or b"").outcome == "ACCEPTED"
    assert message.headers() is None
    shown = world.command("refused", "show", str(event_id), "--json")
    assert (shown.returncode, b'"headers":null' in shown.stdout) == (0, True), shown.stderr


def test_the_bytes_of_a_record_are_shown_up_to_a_limit_and_written_whole(world: World, tmp_path: Path) -> None:
    value = b"x" * 100_000
    event_id = event_id_at(ACME, world.produce(b"acme", value, ACME))
    file = tmp_path / "value"
    done = world.command("refused", "show", str(event_id), "--json", "--output", str(file))
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["value_bytes"], shown["value_hex"]) == (100_000, value[:65_536].hex())
    assert "--output FILE" in shown["value_cut"]
    assert file.read_bytes() == value
    nowhere = world.command("refused", "show", str(event_id), "--output", str(tmp_path / "no" / "folder"))
    assert (nowhere.returncode, b"could not be written" in nowhere.stderr) == (13, True)
