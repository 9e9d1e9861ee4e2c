"""Writes schemas/vectors/wire.v1.json: `python -m tests.golden.vectors`, from the project's folder.

Version 1 is frozen, and so are its vectors (tests/test_golden_log.py); this shows how they came about, and writes those of
a later version.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from msgspec.structs import asdict, replace

from core_tables.consumer.audit_encoding import audit_of
from core_tables.projection.fold.values import Decided
from core_tables.schemas import events
from core_tables.schemas.audit import encode_audit
from core_tables.schemas.avro_schema import AUDIT_SCHEMA, LEDGER_SCHEMA, fingerprint_of, load_schema
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import partition_of
from core_tables.schemas.json_form import event_to_json
from core_tables.schemas.outcomes import Accepted, Refused, Replayed
from core_tables.schemas.text import WHITE_SPACE
from core_tables.schemas.vocabulary import EVENT_TYPES, PARTITIONS
from core_tables.schemas.wire import encode_event
from tests.book import Book
from tests.builders import START, make

VECTORS: Final = Path(str(files("core_tables.schemas"))) / "vectors" / "wire.v1.json"
NAMES: Final = ("acme", "a", "tenant-1", "globex", "t:1", "x" * 64)
TENANTS: Final = (*NAMES, "foobar", "tenant-2", "tenant-3", "branch-00")
TTL_NS: Final = 60_000 * 1_000_000


def vectors() -> dict[str, Any]:
    """What the file holds."""
    return {
        "fingerprint_hex": fingerprint_of(load_schema(LEDGER_SCHEMA)).hex(),
        "audit_fingerprint_hex": fingerprint_of(load_schema(AUDIT_SCHEMA)).hex(),
        "partitions": PARTITIONS,
        "tenants": {tenant: partition_of(tenant.encode(), PARTITIONS) for tenant in TENANTS},
        "white_space": [f"U+{ord(character):04X}" for character in WHITE_SPACE],
        "not_white_space": ["U+001C", "U+001D", "U+001E", "U+001F", "U+180E", "U+200B", "U+2060", "U+FEFF"],
        "events": [_written(event) for event in _events()],
        "also_decoded": [_decoded(name, event, value) for name, event, value in _other_forms()],
        "refused": [decided_vector(name, Book(), *record) for name, record in _wrong_records().items()],
        "sequence": _sequence(),
    }


def _written(event: LedgerEvent) -> dict[str, Any]:
    key = event.tenant_id.encode()
    return {
        "event": event_to_json(event),
        "key_hex": key.hex(),
        "partition": partition_of(key, PARTITIONS),
        "value_hex": encode_event(event).hex(),
    }


def _decoded(name: str, event: LedgerEvent, value: bytes) -> dict[str, Any]:
    return {"name": name, "event": event_to_json(event), "value_hex": value.hex()}


def _events() -> list[LedgerEvent]:
    """One of each type, and what is easily got wrong."""
    found = []
    for number, kind in enumerate(EVENT_TYPES):
        tenant = NAMES[number % len(NAMES)]
        expected = 0 if kind == "WORK_ORDER_CREATED" else None
        key = f"key-{number}"
        found.append(
            make(kind, tenant_id=tenant, turn_id=number + 1, expected_last_event_id=expected, idempotency_key=key)
        )
    created = events.WorkOrderCreated("\N{WATER WAVE}", fields={"Straße": "Zürich", "\N{SNOWMAN}": ""})
    several = events.WorkOrderCreated("ada", fields={"text": "x", "long": -(2**63), "most": 2**63 - 1, "yes": True})
    empty = events.WorkOrderCreated("ada", fields={"no": False}, missing_fields=[])
    return [
        *found,
        make("WORK_ORDER_CREATED", work_order_id="wo-\N{LATIN SMALL LETTER E WITH ACUTE}-2", payload=created),
        make("WORK_ORDER_CREATED", payload=several),
        make("WORK_ORDER_CREATED", payload=empty),
        make("WORK_ORDER_CREATED", payload=events.WorkOrderCreated("ada", fields={})),
        make("FIELD_SET", payload=events.FieldSet("city", None, ["prompt-1"])),
        make("FIELD_SET", payload=events.FieldSet("city", "")),
        make("FIELD_SET", payload=events.FieldSet("nights", 3)),
        make("FIELD_CONFLICT_RESOLVED", payload=events.FieldConflictResolved("late", value=True)),
        make("STATUS_CHANGED", payload=events.StatusChanged(missing_fields=["date", "party"])),
        make("STATUS_CHANGED", payload=events.StatusChanged()),
        make("STEP_FINISHED", lease_owner_id="owner-1", lease_token_hash="token-1"),
        make("LEASE_ACQUIRED", lease_expires_at=START + TTL_NS),
        make("FIELD_SET", correlation_id=2**128 - 1, turn_id=2**63 - 1, reason_code=2**32 - 1, created_at=2**63 - 1),
    ]


def _other_forms() -> list[tuple[str, LedgerEvent, bytes]]:
    """Bytes that another program may write for an event, and ours does not."""
    status = make("STATUS_CHANGED", payload=events.StatusChanged())
    released, canceled = make("LEASE_RELEASED"), make("WORK_ORDER_CANCELED")
    created = make("WORK_ORDER_CREATED", payload=events.WorkOrderCreated("ada", fields={"a": 1, "b": True}))
    value = encode_event(created)
    as_we_write = b"\x04\x02a\x02\x02\x02b\x04\x01\x00"
    assert value.count(as_we_write) == 1
    other_order = b"\x04\x02b\x04\x01\x02a\x02\x02\x00"
    two_blocks = b"\x02\x02a\x02\x02\x01\x08\x02b\x04\x01\x00"  # the second with its size in bytes
    return [
        ("the payload of STATUS_CHANGED is null", status, encode_event(replace(status, payload=None))),
        ("the payload of LEASE_RELEASED is null", released, encode_event(replace(released, payload=None))),
        ("the payload of WORK_ORDER_CANCELED is null", canceled, encode_event(replace(canceled, payload=None))),
        ("the entries of a map in another order", created, value.replace(as_we_write, other_order)),
        ("a map in two blocks", created, value.replace(as_we_write, two_blocks)),
    ]


Keyed = tuple[bytes | None, bytes | None, int]


def _record(event: LedgerEvent) -> Keyed:
    key = event.tenant_id.encode()
    return key, encode_event(event), partition_of(key, PARTITIONS)


def _wrong_records() -> dict[str, Keyed]:
    """Records that are refused whatever the ledger holds, by what is wrong with them."""
    right = make("FIELD_SET")
    key, value, partition = _record(right)
    assert value is not None
    named = value.replace(b"\x08acme", b"\x08\xff\xfe\xfd\xfc")
    cut, more = value[:-3], value + b"\0"
    unread: dict[str, Keyed] = {
        "no value": (key, None, partition),
        "an empty value": (key, b"", partition),
        "no marker": (key, b"\xc3\x02" + value[2:], partition),
        "a writer schema that is not registered": (key, value[:2] + bytes(range(8)) + value[10:], partition),
        "the fingerprint in the wrong byte order": (key, value[:2] + value[9:1:-1] + value[10:], partition),
        "a fingerprint without a body that is not registered": (key, value[:2] + bytes(8), partition),
        "no fingerprint": (key, value[:9], partition),
        "the body ends early": (key, cut, partition),
        "a byte too many": (key, more, partition),
        "a text that is not UTF-8": (key, named, partition),
        "an enum symbol that the schema does not have": (
            key,
            value.replace(b"\x02\x02\x00\x02", b"\x02\x1e\x00\x02", 1),
            partition,
        ),
        "the payload of another type": (key, _with_another_payload(value), partition),
        "another tenant's key": (b"globex", value, partition_of(b"globex", PARTITIONS)),
        "no key": (None, value, partition),
        "another partition": (key, value, (partition + 1) % PARTITIONS),
    }
    return unread | {name: _record(event) for name, event in _wrong_events(right).items()}


def _with_another_payload(field_set: bytes) -> bytes:
    """A FIELD_SET with the payload of a FIELD_ASKED: the two differ first in the event type."""
    asked = encode_event(make("FIELD_ASKED"))
    at = next(index for index, (one, other) in enumerate(zip(field_set, asked, strict=False)) if one != other)
    return asked[:at] + field_set[at : at + 1] + asked[at + 1 :]


def _wrong_events(right: LedgerEvent) -> dict[str, LedgerEvent]:
    """Events that encode and break a rule that needs no state."""
    fields: dict[str, list[Any]] = {
        "schema_version": [2],
        "created_at": [0, -1],
        "tenant_id": ["", " ", "_unattributed", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "x" * 65, "a\0b"],
        "work_order_id": ["", "\u3000", "x" * 129, "\N{EURO SIGN}" * 43, "a\0b"],
        "correlation_id": [0],
        "turn_id": [0],
        "reason_code": [0, 2**32],
        "expected_last_event_id": [-1, 7],
        "step_id": ["", "x" * 97],
        "step_input_hash": [" ", "x" * 129],
        "lease_owner_id": ["\t", "x" * 129],
        "lease_token_hash": ["\u2028", "x" * 129],
        "lease_expires_at": [-1],
        "idempotency_key": ["", "x" * 129],
        "payload": [None, events.FieldSet("", 1), events.FieldSet("a", " "), events.FieldSet("a", "x", ["\x85"])],
    }
    found = {
        f"{name} {number} of {len(wrong)}": replace(right, **{name: value})
        for name, wrong in fields.items()
        for number, value in enumerate(wrong, start=1)
    }
    asked = events.ExternalApprovalRequested("", "boss", START)
    blank_key, blank_missing = {"": 1}, [" "]
    more: dict[str, LedgerEvent] = {
        "a blank key in fields": make("WORK_ORDER_CREATED", payload=events.WorkOrderCreated("u", fields=blank_key)),
        "a blank missing field": make("STATUS_CHANGED", payload=events.StatusChanged(None, blank_missing)),
        "a blank request_id": make("EXTERNAL_APPROVAL_REQUESTED", payload=asked),
        "created with a closed status": make("WORK_ORDER_CREATED", work_order_status="DONE"),
        "a cancel with another status": make("WORK_ORDER_CANCELED", work_order_status="DRAFT"),
        "a cancel without an idempotency key": make("WORK_ORDER_CANCELED", idempotency_key=None),
        "a cancel of no work order": make("WORK_ORDER_CANCELED"),
        "a step without step_id": make("STEP_STARTED", step_id=None),
        "an attempt below 0": make("STEP_STARTED", payload=events.StepStarted(-1)),
        "a step with an owner and no token": make("STEP_STARTED", lease_owner_id="owner-1"),
        "a step with a token and no owner": make("STEP_STARTED", lease_token_hash="token-1"),
        "a step that claims a lease of no work order": make("STEP_STARTED", lease_owner_id="o", lease_token_hash="t"),
        "a lease without an owner": make("LEASE_ACQUIRED", lease_owner_id=None),
        "a lease without a token": make("LEASE_ACQUIRED", lease_token_hash=None),
        "a lease of no time": make("LEASE_ACQUIRED", payload=events.LeaseAcquired(0)),
        "a lease of too much time": make("LEASE_RENEWED", payload=events.LeaseRenewed(300_001)),
        "a lease_expires_at that is not created_at + ttl": make("LEASE_ACQUIRED", lease_expires_at=START),
        "a renewal of no lease": make("LEASE_RENEWED"),
    }
    return found | more


def _sequence() -> list[dict[str, Any]]:
    """Records of one partition, one after the other, with what becomes of each and its audit event."""
    leased: dict[str, Any] = {"lease_owner_id": "owner-1", "lease_token_hash": "token-1"}
    later, expired = START + 1_000_000_000, START + TTL_NS
    book = Book()
    records = [
        make("WORK_ORDER_CREATED", idempotency_key="created"),
        make("WORK_ORDER_CREATED", idempotency_key="created", created_at=later),
        make("FIELD_SET", idempotency_key="created"),
        make("WORK_ORDER_CREATED", idempotency_key="created-2"),
        make("FIELD_ASKED", work_order_status="CLARIFY", expected_last_event_id=1, idempotency_key="prompt-1"),
        make("FIELD_ASKED", work_order_status="CLARIFY", expected_last_event_id=1),
        make("FIELD_SET", payload=events.FieldSet("date", "2026-01-01", ["prompt-1"]), work_order_status="CLARIFY"),
        make("FIELD_SET", payload=events.FieldSet("city", None), work_order_status="CLARIFY"),
        make("FIELD_SET", correlation_id=1),
        make("LEASE_ACQUIRED", work_order_status="EXECUTING"),
        make("LEASE_ACQUIRED", lease_owner_id="owner-2", created_at=later),
        make("LEASE_RENEWED", lease_owner_id="owner-2", created_at=later),
        make("LEASE_RENEWED", lease_token_hash="token-2", created_at=later),
        make("STEP_STARTED", work_order_status="EXECUTING", created_at=later, idempotency_key="start", **leased),
        make("STEP_FINISHED", work_order_status="EXECUTING", idempotency_key="start", **leased),
        make("STEP_FAILED", work_order_status="EXECUTING", created_at=expired, **leased),
        make("STEP_FAILED", work_order_status="EXECUTING", created_at=later, **leased),
        make("STEP_RETRY_SCHEDULED", work_order_status="EXECUTING", created_at=later, **leased),
        make("EXTERNAL_APPROVAL_REQUESTED", work_order_status="CONFIRM"),
        make(
            "EXTERNAL_APPROVAL_RESOLVED",
            work_order_status="CONFIRM",
            payload=events.ExternalApprovalResolved("x", "NO"),
        ),
        make("WORK_ORDER_CREATED", work_order_id="order-2", correlation_id=make("FIELD_SET").correlation_id),
        make("WORK_ORDER_CANCELED", created_at=later),
        make("WORK_ORDER_CANCELED", created_at=later, idempotency_key="cancel-2"),
        make("FIELD_SET", idempotency_key=" "),
        make("FIELD_SET", work_order_id=""),
        make("STATUS_CHANGED", payload=None),
        make("FIELD_SET", work_order_id="wo-Zürich", correlation_id=1, idempotency_key="\N{SNOWMAN}"),
    ]
    return [decided_vector(event.event_type, book, *_record(event)) for event in records]


def decided_vector(name: str, book: Book, key: bytes | None, value: bytes | None, partition: int) -> dict[str, Any]:
    """A record with what becomes of it and its audit event."""
    book.append_record(key, value, partition)
    decided = book.decided[-1]
    audit = audit_of(decided)
    return {
        "name": name,
        "key_hex": None if key is None else key.hex(),
        "partition": partition,
        "value_hex": None if value is None else value.hex(),
        "event_id": decided.event_id,
        **_outcome(decided),
        "audit_key_hex": decided.tenant_id.encode().hex(),
        "audit_event": {
            **asdict(audit),
            "correlation_id": None if audit.correlation_id is None else str(audit.correlation_id),
        },
        "audit_value_hex": encode_audit(audit).hex(),
    }


def _outcome(decided: Decided) -> dict[str, Any]:
    match outcome := decided.outcome:
        case Accepted():
            return {"outcome": "ACCEPTED"}
        case Replayed():
            return {
                "outcome": "REPLAYED",
                "first_event_id": outcome.first_event_id,
                "request_differs": outcome.request_differs,
            }
        case Refused():
            return {"outcome": "REFUSED", "reason_code": outcome.reason_code, "field": outcome.field}


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"wrote {VECTORS}")
