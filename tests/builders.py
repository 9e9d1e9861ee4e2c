"""Events for tests: a valid one of each type, to be changed in one place."""

import random
from collections.abc import Iterator
from itertools import count
from typing import Any

from core_tables.schemas import events
from core_tables.schemas.events import LedgerEvent, Payload
from core_tables.schemas.identity import partition_of
from core_tables.schemas.vocabulary import EVENT_TYPES, PARTITIONS, EventType

HOUR = 3_600_000_000_000
SEED = 20_260_101
START = 1_700_000_000_000_000_000  # ns

PAYLOADS: dict[EventType, Payload] = {
    "WORK_ORDER_CREATED": events.WorkOrderCreated(
        "ada", "speaker-1", "device-1", "session-1", "process-1", "1.0", "BOOK", {"city": "Paris"}, ["date"]
    ),
    "FIELD_SET": events.FieldSet("date", "2026-01-01"),
    "FIELD_CONFLICT_RESOLVED": events.FieldConflictResolved("city", "Rome"),
    "FIELD_ASKED": events.FieldAsked("date", "prompt-1"),
    "STATUS_CHANGED": events.StatusChanged("PENDING"),
    "STEP_STARTED": events.StepStarted(0, 1000, 3, 50),
    "STEP_FINISHED": events.StepFinished(0),
    "STEP_FAILED": events.StepFailed(0, 77),
    "STEP_RETRY_SCHEDULED": events.StepRetryScheduled(1, START + HOUR),
    "LEASE_ACQUIRED": events.LeaseAcquired(60_000),
    "LEASE_RENEWED": events.LeaseRenewed(60_000),
    "LEASE_RELEASED": events.LeaseReleased(),
    "EXTERNAL_APPROVAL_REQUESTED": events.ExternalApprovalRequested("request-1", "boss", START + HOUR),
    "EXTERNAL_APPROVAL_RESOLVED": events.ExternalApprovalResolved("request-1", "APPROVED"),
    "WORK_ORDER_CANCELED": events.WorkOrderCanceled(),
}


def correlation_of(tenant_id: str, work_order_id: str) -> int:
    """A correlation id that is a work order's own."""
    return int.from_bytes(f"{tenant_id}/{work_order_id}".encode()[-16:], "big") + 1


def make(event_type: EventType, **changes: Any) -> LedgerEvent:
    """A valid event of a type, for work order `order-1` of tenant `acme`, with the changes asked for."""
    tenant = changes.get("tenant_id", "acme")
    work_order = changes.get("work_order_id", "order-1")
    step = event_type.startswith("STEP_")
    lease = event_type.startswith("LEASE_")
    canceled = event_type == "WORK_ORDER_CANCELED"
    fields: dict[str, Any] = {
        "schema_version": 1,
        "created_at": START,
        "tenant_id": tenant,
        "work_order_id": work_order,
        "correlation_id": correlation_of(tenant, work_order),
        "turn_id": 1,
        "event_type": event_type,
        "work_order_status": "CANCELED" if canceled else "DRAFT",
        "reason_code": 1,
        "expected_last_event_id": None,
        "step_id": "step-1" if step else None,
        "step_input_hash": "hash" if step else None,
        "lease_owner_id": "owner-1" if lease else None,
        "lease_token_hash": "token-1" if lease else None,
        "lease_expires_at": None,
        "idempotency_key": "cancel-1" if canceled else None,
        "payload": PAYLOADS[event_type],
    }
    return LedgerEvent(**{**fields, **changes})


def day(count: int, tenants: int = 30, orders: int = 40, seed: int = SEED) -> list[LedgerEvent]:
    """Events of all types over tenants and orders, some of them replays, some refused."""
    chance = random.Random(seed)
    events = []
    for i in range(count):
        key, keyed = f"key-{chance.randrange(count)}", chance.random() < 0.9
        kind = chance.choice(EVENT_TYPES) if chance.random() < 0.7 else "WORK_ORDER_CREATED"
        events.append(
            make(
                kind,
                tenant_id=f"tenant-{chance.randrange(tenants)}",
                work_order_id=f"order-{chance.randrange(orders)}",
                created_at=START + i,
                turn_id=i + 1,
                idempotency_key=key if keyed or kind == "WORK_ORDER_CANCELED" else None,
            )
        )
    return events


def tenant_of_another_lane(partition: int, partitions: int = PARTITIONS) -> str:
    """A tenant whose records belong in another partition than this."""
    return next(name for name in _names() if partition_of(name.encode(), partitions) != partition)


def tenant_of_lane(partition: int, prefix: str = "tenant-", partitions: int = PARTITIONS) -> str:
    """A tenant whose records belong in this partition."""
    return next(name for name in _names(prefix) if partition_of(name.encode(), partitions) == partition)


def _names(prefix: str = "tenant-") -> Iterator[str]:
    return (f"{prefix}{number}" for number in count())
