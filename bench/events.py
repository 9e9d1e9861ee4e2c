"""The load: a day of 50 tenants and 20,000 work orders, or the real input. It is in the ledger topic before a run starts."""

import gzip
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import orjson

from bench.place import ANY, fill
from core_tables.schemas import events
from core_tables.schemas.events import LedgerEvent, Payload
from core_tables.schemas.json_form import event_from_json
from core_tables.schemas.vocabulary import EventType, WorkOrderStatus
from core_tables.schemas.wire import encode_event
from core_tables.settings.environment import Settings

SEED: Final = 20_261_124
TENANTS: Final = 50
START: Final = 1_760_000_000_000_000_000  # ns
STEP_NS: Final = 100_000  # so that leases outlive the steps they are for
REPLAYED: Final = 0.02  # of the events are sent a second time

Step = tuple[EventType, WorkOrderStatus, Payload]

# The life of a work order, ten events long, as an orchestrator would write it.
LIFE: Final[tuple[Step, ...]] = (
    (
        "WORK_ORDER_CREATED",
        "DRAFT",
        events.WorkOrderCreated(
            *("requester-17", "speaker-4", "phone-9", "session-3141", "booking", "2026.1", "BOOK_TRIP"),
            {"city": "Lisbon"},
            ["date", "party"],
        ),
    ),
    ("FIELD_ASKED", "CLARIFY", events.FieldAsked("date", "ask-date-1")),
    ("FIELD_SET", "CLARIFY", events.FieldSet("date", "2026-12-24")),
    ("FIELD_SET", "CONFIRM", events.FieldSet("party", 4)),
    ("STATUS_CHANGED", "EXECUTING", events.StatusChanged("CONFIRMED")),
    ("LEASE_ACQUIRED", "EXECUTING", events.LeaseAcquired(300_000)),
    ("STEP_STARTED", "EXECUTING", events.StepStarted(0, 30_000, 3, 500)),
    ("STEP_FINISHED", "EXECUTING", events.StepFinished(0)),
    ("LEASE_RELEASED", "EXECUTING", events.LeaseReleased()),
    ("STATUS_CHANGED", "DONE", events.StatusChanged()),
)
# One that stays in a pending list for nine of its ten events.
PENDING_LIFE: Final[tuple[Step, ...]] = (
    *LIFE[:4],
    *(("FIELD_SET", "CONFIRM", events.FieldSet("party", party)) for party in range(5, 10)),
    LIFE[-1],
)


def day(count: int, orders: int = 20_000, life: Sequence[Step] = LIFE) -> Iterator[LedgerEvent]:
    """`count` events of `orders` work orders, at random; an order whose life is over is followed by a new one."""
    chance = random.Random(SEED)
    places = [0] * orders
    for number in range(count):
        order = chance.randrange(orders)
        place = places[order]
        places[order] += 1
        if place and chance.random() < REPLAYED:
            places[order] -= 1
            place -= 1
        yield _event(order, place, START + number * STEP_NS, life)


def _event(order: int, place: int, at: int, steps: Sequence[Step]) -> LedgerEvent:
    life, step = divmod(place, len(steps))
    kind, status, payload = steps[step]
    lease, stepping = kind.startswith("LEASE_"), kind.startswith("STEP_")
    name = f"order-{order}-{life}"
    return LedgerEvent(
        created_at=at,
        tenant_id=f"tenant-{order % TENANTS}",
        work_order_id=name,
        correlation_id=(order << 32) + life + 1,
        turn_id=step + 1,
        event_type=kind,
        work_order_status=status,
        reason_code=1000 + step,
        step_id="reserve-seats" if stepping else None,
        step_input_hash="9f86d081884c7d659a2feaa0c55ad015" if stepping else None,
        lease_owner_id="orchestrator-2" if lease else None,
        lease_token_hash="e3b0c44298fc1c149afbf4c8996fb924" if lease else None,
        idempotency_key=f"{name}:{step}",
        payload=payload,
    )


def real_input(path: Path) -> Iterator[LedgerEvent]:
    """The events of a file of JSON lines, gzipped."""
    with gzip.open(path, "rb") as lines:
        for line in lines:
            yield event_from_json(orjson.loads(line))


def write(settings: Settings, load: Iterable[LedgerEvent]) -> None:
    """Write events to the ledger topic."""
    fill(settings, ((settings.topic, encode_event(event), event.tenant_id.encode(), ANY) for event in load))
