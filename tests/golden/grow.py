"""Adds records to a golden log: `python -m tests.golden.grow SEED COUNT`, from the project's folder.

What the log holds already is never written again: a rule that would change it needs a new schema_version. The log of a
version that is frozen does not grow either (tests/test_golden_log.py).
"""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import astuple, replace

from core_tables.schemas import events
from core_tables.schemas.events import FieldValue, LedgerEvent, Payload
from core_tables.schemas.identity import partition_of
from core_tables.schemas.outcomes import Outcome
from core_tables.schemas.vocabulary import EVENT_TYPES, PARTITIONS, EventType
from core_tables.schemas.wire import encode_event
from tests.book import Book
from tests.builders import START, make

_OFTEN: list[EventType] = ["LEASE_ACQUIRED", "LEASE_RENEWED", "LEASE_RELEASED", "STEP_STARTED", "FIELD_SET"]
LOG = Path(__file__).with_name("log.v1.jsonl")


def outcome_json(outcome: Outcome) -> list[Any]:
    """An outcome as the log holds it."""
    return [type(outcome).__name__, *astuple(outcome)]


def read() -> list[dict[str, Any]]:
    """The log's lines."""
    return [json.loads(line) for line in LOG.read_text("utf-8").splitlines()] if LOG.exists() else []


def append(book: Book, line: dict[str, Any]) -> Outcome:
    """Append a line's record to a book."""
    key, value = (None if line[name] is None else bytes.fromhex(line[name]) for name in ("key", "value"))
    return book.append_record(key, value, line["partition"])


_FIELDS: list[str] = ["date", "city", "nights", "date", "city", "nights", "", "\N{SNOWMAN}"]
_VALUES: list[FieldValue] = [1, "y"]
_INITIAL: list[dict[str, FieldValue] | None] = [
    None,
    {},
    {"city": "Zürich", "nights": 3, "late": True},
    {"city": ""},
    {"a": "\x1f"},
]
_PAYLOADS: dict[str, Callable[[random.Random], Payload]] = {
    "WORK_ORDER_CREATED": lambda chance: events.WorkOrderCreated(
        chance.choice(["ada", "bob"]),
        intent_type=chance.choice([None, "BOOK", " "]) if chance.random() < 0.2 else None,
        fields=chance.choice(_INITIAL),
        missing_fields=chance.choice([None, [], ["date", "city", "date"], ["party"]]),
    ),
    "FIELD_SET": lambda chance: events.FieldSet(
        chance.choice(_FIELDS),
        chance.choice([None, None, "", "x", 1, True, -(2**63), " "]) if chance.random() < 0.95 else "x" * 9000,
        chance.choice([None, None, [], ["ask-0"], ["ask-0", "ask-1"]]),
    ),
    "FIELD_CONFLICT_RESOLVED": lambda chance: events.FieldConflictResolved(
        chance.choice(_FIELDS), chance.choice(_VALUES)
    ),
    "FIELD_ASKED": lambda chance: events.FieldAsked(chance.choice(_FIELDS), f"ask-{chance.randrange(3)}"),
    "STATUS_CHANGED": lambda chance: events.StatusChanged(
        chance.choice([None, "PENDING", "CONFIRMED"]), chance.choice([None, None, ["date"], ["city", "nights"], [""]])
    ),
    "STEP_STARTED": lambda chance: events.StepStarted(
        chance.choice([0, 0, 1, 2, -1]), *chance.choice([(None, None, None), (1000, 3, 50), (None, 2, None)])
    ),
    "STEP_FINISHED": lambda chance: events.StepFinished(chance.randrange(3)),
    "STEP_FAILED": lambda chance: events.StepFailed(chance.randrange(3), chance.choice([0, 7, 7, 7])),
    "STEP_RETRY_SCHEDULED": lambda chance: events.StepRetryScheduled(chance.randrange(4), START),
    "LEASE_ACQUIRED": lambda chance: events.LeaseAcquired(chance.choice([0, 300_001, *[60_000] * 6])),
    "LEASE_RENEWED": lambda chance: events.LeaseRenewed(chance.choice([0, 300_001, *[60_000] * 6])),
    "LEASE_RELEASED": lambda _: events.LeaseReleased(),
    "EXTERNAL_APPROVAL_REQUESTED": lambda chance: events.ExternalApprovalRequested(
        f"request-{chance.randrange(2)}", chance.choice(["boss", "boss", ""]), START
    ),
    "EXTERNAL_APPROVAL_RESOLVED": lambda chance: events.ExternalApprovalResolved(
        f"request-{chance.randrange(2)}", "YES"
    ),
    "WORK_ORDER_CANCELED": lambda _: events.WorkOrderCanceled(),
}
_WRONG: dict[str, list[Any]] = {
    "schema_version": [0, 2],
    "created_at": [0, 2**63 - 1],
    "turn_id": [0],
    "reason_code": [0, 2**32],
    "expected_last_event_id": [0, 1, -1],
    "correlation_id": [1, 2**128 - 1, 0],
    "tenant_id": ["_unattributed", " ", "\x1c"],
    "work_order_id": ["", " \u3000", "\x1c", "order-\N{SNOWMAN}"],
    "idempotency_key": ["", "key", "\x85", None],
    "step_id": [None, " ", "x" * 97],
    "step_input_hash": ["", "a\0b"],
    "lease_owner_id": [None, "\u2003"],
    "lease_token_hash": [None, ""],
    "lease_expires_at": [0, -1],
    "payload": [None],
}


def _event(chance: random.Random, step: int) -> LedgerEvent:
    kind: EventType = chance.choice([*EVENT_TYPES, *_OFTEN])
    tenant = chance.choice(["acme", "acme", "globex"])
    changes: dict[str, Any] = {"payload": _PAYLOADS[kind](chance)}
    if kind.startswith("LEASE_") or (kind.startswith("STEP_") and chance.random() < 0.5):
        changes["lease_owner_id"] = chance.choice(["owner-1", "owner-1", "owner-1", "owner-2"])
        changes["lease_token_hash"] = chance.choice(["token-1", "token-1", "token-1", "token-2"])
    status = chance.choice(["DRAFT", "DRAFT", "CLARIFY", "CONFIRM", "CONFIRM", "EXECUTING", "DONE", "CANCELED"])
    changes["work_order_status"] = "CANCELED" if kind == "WORK_ORDER_CANCELED" else status
    if chance.random() < 0.15:
        wrong = chance.choice(list(_WRONG))
        changes[wrong] = chance.choice(_WRONG[wrong])
    usual: dict[str, Any] = {
        "tenant_id": tenant,
        "work_order_id": f"order-{chance.randrange(6)}",
        "created_at": START + step * 200_000_000,
        "idempotency_key": chance.choice([None, *[f"key-{step // 2}"] * 6]),
    }
    return make(kind, **{**usual, **changes})


def _record(chance: random.Random, event: LedgerEvent) -> tuple[bytes | None, bytes | None, int]:
    key, value = event.tenant_id.encode(), encode_event(event)
    partition = partition_of(key, PARTITIONS)
    match chance.randrange(25):
        case 0:
            at = 10 + chance.randrange(len(value) - 10)
            return key, value[:at] + bytes([chance.randrange(256)]) + value[at + 1 :], partition
        case 1:
            return key, chance.choice([None, b"", value[: chance.randrange(len(value))], value + b"\0"]), partition
        case 2:
            return chance.choice([None, b"acme", b"globex", b"nobody"]), value, chance.randrange(PARTITIONS)
        case 3:
            fingerprint = chance.choice([value[2:10][::-1], bytes(8), chance.randbytes(8)])
            return key, value[:2] + fingerprint + value[10:], partition
        case _:
            return key, value, partition


def main(seed: int, count: int) -> None:
    """Replay the log, and add records to its end."""
    book = Book()
    for line in read():
        append(book, line)
    chance = random.Random(seed)
    event = _event(chance, 0)
    with LOG.open("a", encoding="utf-8") as log:
        for step in range(count):
            again = chance.random() < 0.1
            event = replace(event, turn_id=chance.choice([1, 2])) if again else _event(chance, step)
            key, value, partition = _record(chance, event)
            added: dict[str, Any] = {
                "key": None if key is None else key.hex(),
                "value": None if value is None else value.hex(),
                "partition": partition,
            }
            added["outcome"] = outcome_json(append(book, added))
            log.write(json.dumps(added) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
