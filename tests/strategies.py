"""Hypothesis strategies: whatever a record may hold, valid more often than not."""

from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from core_tables.schemas import events
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.vocabulary import EVENT_TYPES, MAX_I64, NS_PER_MS, STATUSES, EventType

from .builders import START, correlation_of, make

# Few names, so that events meet; any text now and then, blank ones, NUL and wide characters included.
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text(" \u3000\x1c", max_size=2)
names = st.integers(0, 9).flatmap(lambda chance: any_text if chance == 0 else st.sampled_from(["a", "b", "c"]))
small = st.integers(0, 3)
any_long = st.integers(-(2**63), MAX_I64)
times = st.integers(0, 6).map(lambda step: START + step * 20_000 * NS_PER_MS)
values = any_text | any_long | st.booleans()
optional_text = st.none() | names

PAYLOADS: dict[EventType, Any] = {
    "WORK_ORDER_CREATED": st.builds(
        events.WorkOrderCreated,
        names,
        *[optional_text] * 6,
        st.none() | st.dictionaries(names, values, max_size=4),
        st.none() | st.lists(names, max_size=4),
    ),
    "FIELD_SET": st.builds(events.FieldSet, names, st.none() | values, st.none() | st.lists(names, max_size=3)),
    "FIELD_CONFLICT_RESOLVED": st.builds(events.FieldConflictResolved, names, values),
    "FIELD_ASKED": st.builds(events.FieldAsked, names, names),
    "STATUS_CHANGED": st.builds(
        events.StatusChanged,
        st.sampled_from([None, "PENDING", "CONFIRMED"]),
        st.none() | st.lists(names, max_size=4),
    ),
    "STEP_STARTED": st.builds(events.StepStarted, small, *[st.none() | small] * 3),
    "STEP_FINISHED": st.builds(events.StepFinished, small),
    "STEP_FAILED": st.builds(events.StepFailed, small, st.integers(1, 9)),
    "STEP_RETRY_SCHEDULED": st.builds(events.StepRetryScheduled, small, times),
    "LEASE_ACQUIRED": st.builds(events.LeaseAcquired, st.sampled_from([1, 30_000, 300_000, 300_001])),
    "LEASE_RENEWED": st.builds(events.LeaseRenewed, st.sampled_from([1, 30_000, 300_000, 0])),
    "LEASE_RELEASED": st.just(events.LeaseReleased()),
    "EXTERNAL_APPROVAL_REQUESTED": st.builds(events.ExternalApprovalRequested, names, names, times),
    "EXTERNAL_APPROVAL_RESOLVED": st.builds(events.ExternalApprovalResolved, names, names),
    "WORK_ORDER_CANCELED": st.just(events.WorkOrderCanceled()),
}


def _rarely(values: st.SearchStrategy[str]) -> st.SearchStrategy[str | None]:
    return st.integers(0, 5).flatmap(lambda chance: values if chance == 0 else st.none())


@st.composite
def ledger_events(draw: st.DrawFn, tenants: tuple[str, ...] = ("acme", "globex")) -> LedgerEvent:
    """An event that fits its schema; most keep the contract, some do not."""
    kind = draw(st.sampled_from(EVENT_TYPES))
    tenant, work_order = draw(st.sampled_from(tenants)), draw(st.sampled_from(["o1", "o2"]))
    step, lease = kind.startswith("STEP_"), kind.startswith("LEASE_")
    leased = lease or (step and draw(st.booleans()))
    return LedgerEvent(
        schema_version=1,
        created_at=draw(times),
        tenant_id=tenant,
        work_order_id=work_order,
        correlation_id=draw(st.just(correlation_of(tenant, work_order)) | st.sampled_from([7, 2**128 - 1])),
        turn_id=draw(st.integers(1, 3)),
        event_type=kind,
        work_order_status="CANCELED" if kind == "WORK_ORDER_CANCELED" else draw(st.sampled_from(STATUSES)),
        reason_code=draw(st.integers(1, 3)),
        expected_last_event_id=draw(st.none() | st.just(0)) if draw(st.integers(0, 9)) == 0 else None,
        step_id=draw(names) if step else draw(st.none() | names),
        step_input_hash=draw(optional_text),
        lease_owner_id=draw(st.sampled_from(["x", "x", "y"])) if leased else draw(_rarely(names)),
        lease_token_hash=draw(st.sampled_from(["t", "t", "u"])) if leased else draw(_rarely(names)),
        lease_expires_at=None if lease else draw(st.none() | times),
        idempotency_key=draw(st.none() | st.sampled_from(["k1", "k2", "k3", "k4", "k5"]) | names),
        payload=draw(PAYLOADS[kind]),
    )


logs = st.lists(ledger_events(), max_size=40)


@st.composite
def step_events(draw: st.DrawFn) -> LedgerEvent:
    """An event of one work order's steps; half of the keys were used before, so that half of the starts are replays."""
    kind = draw(st.sampled_from([kind for kind in EVENT_TYPES if kind.startswith("STEP_")]))
    return make(
        kind,
        idempotency_key=draw(st.sampled_from(["k1", "k2", "k3", None])),
        payload=replace(draw(PAYLOADS[kind]), attempt_index=draw(st.integers(0, 2))),
    )


# An attempt that was started and is over, and what comes after it.
step_logs = st.lists(step_events(), min_size=2, max_size=8).map(
    lambda later: [
        make("STEP_STARTED", idempotency_key="k1"),
        make("STEP_FINISHED", idempotency_key="k2"),
        *later,
    ]
)
