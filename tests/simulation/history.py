"""What is appended to the ledger topic in a run, and what the reference fold makes of it at every offset.

In some runs a later release takes over: `init` registers its schema while workers fold. A stranger wrote records with it
before, which are refused; those after are decoded.
"""

import random
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from core_tables.projection.fold.pending import PendingRecord, pending_record
from core_tables.projection.fold.values import Decided, WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.schemas import ledger_event_v1
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import partition_of
from core_tables.schemas.vocabulary import EVENT_TYPES, NS_PER_MS, EventType
from core_tables.schemas.wire import DECODERS, HEADER_BYTES, MARKER, WRITER_FINGERPRINT, encode_event, lane_schemas
from tests.book import Book
from tests.builders import START, make

from .broker import Broker

TENANTS: Final = ("acme", "globex", "initech", "umbrella")
EVENTS: Final = 22
PARTS: Final = (range(7), range(7, 12), range(12, EVENTS))  # before `init`, while it runs, and after
LATER: Final = MARKER + b"later v2"
LATER_FINGERPRINT: Final = LATER[len(MARKER) :].hex()

Lists = list[dict[int, list[PendingRecord]]]  # by lane and offset


class History:
    """The records of a run: the log they are appended to grows in parts if a later schema is registered on the way."""

    def __init__(self, chance: random.Random, seed: int, lanes: int) -> None:
        self.later = seed % 4 == 3
        self.decided: dict[int, Decided] = {}
        self.lists: Lists = []
        self._chance = chance
        self._others = random.Random(seed)  # of their own, so that a seed keeps its schedule
        self._schemas = random.Random(f"schemas {seed}")
        self._times = random.Random(f"times {seed}")
        self._lanes = lanes
        self._records: list[tuple[int, int, bytes, bytes]] = []  # lane, offset, key, value
        self._parts: list[list[list[tuple[bytes, bytes] | None]]] = []
        self._write()
        self.decide({})
        self.records = [[event_id for event_id in self.decided if event_id >> 42 == lane] for lane in range(lanes)]
        self.ends = [0] * lanes
        for lane, offset, *_ in self._records:
            self.ends[lane] = offset + 1

    @property
    def complete(self) -> bool:
        """Whether all is in the topic."""
        return not self._parts

    def append_part(self, broker: Broker) -> None:
        """Append what comes next to the topic."""
        for lane, entries in enumerate(self._parts.pop(0)):
            broker.ledger[lane] += entries

    def decide(self, registered: Mapping[int, int]) -> None:
        """Fold everything, with the later schema registered from these offsets on, by lane."""
        book = Book()
        self.decided, self.lists = {}, [{0: []} for _ in range(self._lanes)]
        for lane, offset, key, value in self._records:
            later = {LATER_FINGERPRINT: registered[lane]} if lane in registered else {}
            book.offset, book.schemas = offset, lane_schemas({WRITER_FINGERPRINT: 0} | later)
            book.append_record(key, value, lane, self._lanes)
            self.decided[book.last_id] = replace(book.decided[-1], broker_time=5 * NS_PER_MS)
            self.lists[lane][offset + 1] = _lists_of(book.states, lane, self._lanes)

    def _write(self) -> None:
        ends = [0] * self._lanes
        gaps = self._chance.choice((0.05, 0.05, 0.05, 0.6))  # a program that appends in transactions leaves many
        for part in PARTS if self.later else (range(EVENTS),):
            self._parts.append([[] for _ in range(self._lanes)])
            for number in part:
                event = self._event(number)
                key, value = event.tenant_id.encode(), encode_event(event)
                lane = partition_of(key, self._lanes)
                value = value[:-2] if self._chance.random() < 0.04 else value  # a body that cannot be read
                if self.later and self._schemas.random() < 0.3:
                    value = LATER + value[HEADER_BYTES:]
                self._records.append((lane, ends[lane], key, value))
                entries: list[tuple[bytes, bytes] | None] = [(key, value)]
                while self._chance.random() < gaps:
                    entries.append(None)
                self._parts[-1][lane] += entries
                ends[lane] += len(entries)

    def _event(self, number: int) -> LedgerEvent:
        kind = self._chance.choice([*EVENT_TYPES, "WORK_ORDER_CREATED", "WORK_ORDER_CREATED", "STATUS_CHANGED"])
        event = make(
            kind,
            tenant_id=self._chance.choice(TENANTS),
            work_order_id=self._chance.choice(["o1", "o2"]),
            created_at=START + number - self._times.choice((0, 0, 1, 10)),  # which may go backwards, and be the same
            turn_id=number + 1,
            idempotency_key=f"key-{self._chance.randrange(EVENTS)}",
        )
        return replace(event, **self._claim(kind))

    def _claim(self, kind: EventType) -> dict[str, str]:
        """Half of the steps claim the lease that there may be, as its owner or as another."""
        if not kind.startswith("STEP_") or self._others.random() < 0.5:
            return {}
        return {"lease_owner_id": self._others.choice(["owner-1", "owner-1", "owner-2"]), "lease_token_hash": "token-1"}


def release_knows_later_schema(known: bool) -> None:
    """Whether the release of the workers can decode it; they are replaced as soon as `init` has registered it."""
    DECODERS.pop(LATER, None)
    if known:
        DECODERS[LATER] = ledger_event_v1.decode


def _lists_of(states: Mapping[WorkOrderKey, WorkOrder | None], lane: int, lanes: int) -> list[PendingRecord]:
    found = [s for k, s in states.items() if s is not None and partition_of(k[0].encode(), lanes) == lane]
    return [_tagged(s) for s in found if pending_record(s) is not None]


def _tagged(state: WorkOrder) -> PendingRecord:
    record = pending_record(state)
    assert record is not None
    return replace(record, work_order_id=f"{state.identity.tenant_id}/{record.work_order_id}")
