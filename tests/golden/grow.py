"""Adds records to the golden log: `python -m tests.golden.grow SEED COUNT`, from the project's folder.

What the log holds already is never written again: a rule that would change it needs a new schema_version.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

from msgspec.structs import astuple

from core_tables.schemas.events import PAYLOAD_TYPES
from core_tables.schemas.identity import partition_of
from core_tables.schemas.outcomes import Outcome
from core_tables.schemas.vocabulary import EVENT_TYPES, PARTITIONS, EventType
from core_tables.schemas.wire import encode_event
from tests.book import Book
from tests.builders import START, make

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


def _record(chance: random.Random, step: int) -> tuple[bytes | None, bytes | None, int]:
    leases: list[EventType] = ["LEASE_ACQUIRED", "LEASE_ACQUIRED", "LEASE_RENEWED", "LEASE_RELEASED"]
    kind = chance.choice([*EVENT_TYPES, *leases])
    tenant = chance.choice(["acme", "globex"])
    changes: dict[str, Any] = {}
    if kind in ("LEASE_ACQUIRED", "LEASE_RENEWED"):
        payload: Any = PAYLOAD_TYPES[kind]
        changes["payload"] = payload(chance.choice([0, 300_001, 60_000, 60_000, 60_000, 60_000]))
    if kind.startswith("LEASE_"):
        changes["lease_owner_id"] = chance.choice(["owner-1", "owner-1", "owner-2"])
        changes["lease_token_hash"] = chance.choice(["token-1", "token-1", "token-2"])
    open_status = chance.choice(["DRAFT", "CONFIRM", "EXECUTING", "DONE"])
    event = make(
        kind,
        tenant_id=tenant,
        work_order_id=f"order-{chance.randrange(4)}",
        created_at=START + step * 2_000_000_000,
        turn_id=chance.choice([0, 2, 2**63 - 1, *[1] * 12]),
        idempotency_key=chance.choice([None, "", "key", *[f"key-{step // 2}"] * 12]),
        work_order_status="CANCELED" if kind == "WORK_ORDER_CANCELED" else open_status,
        **changes,
    )
    key, value = tenant.encode(), encode_event(event)
    partition = partition_of(key, PARTITIONS)
    match chance.randrange(20):
        case 0:
            at = 10 + chance.randrange(len(value) - 10)
            return key, value[:at] + bytes([chance.randrange(256)]) + value[at + 1 :], partition
        case 1:
            return key, chance.choice([None, b"", value[: chance.randrange(len(value))], value + b"\0"]), partition
        case 2:
            return chance.choice([None, b"acme", b"globex", b"nobody"]), value, chance.randrange(PARTITIONS)
        case _:
            return key, value, partition


def main(seed: int, count: int) -> None:
    """Replay the log, and add records to its end."""
    book = Book()
    for line in read():
        append(book, line)
    chance = random.Random(seed)
    with LOG.open("a", encoding="utf-8") as log:
        for step in range(count):
            key, value, partition = _record(chance, step)
            added: dict[str, Any] = {
                "key": None if key is None else key.hex(),
                "value": None if value is None else value.hex(),
                "partition": partition,
            }
            added["outcome"] = outcome_json(append(book, added))
            log.write(json.dumps(added) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
