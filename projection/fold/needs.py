"""What must be loaded before a batch can be folded: states, attempts, idempotency keys. Pure: data in, data out."""

from collections.abc import Iterable, Mapping
from typing import Final

from core_tables.projection.fold.values import KnownState, Record, ReplayKey, Request, WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.schemas.events import LedgerEvent, StepFailed, StepFinished, StepRetryScheduled
from core_tables.schemas.wire import Unreadable, is_tenant_id

Known = dict[WorkOrderKey, KnownState]

ANY_KEY: Final = -1  # the bits of a work order whose keys are not all known: each may be bound


def loadable(content: Request | Unreadable) -> bool:
    """Whether a record names a work order that could exist, so that its state must be known to decide about it."""
    return isinstance(content, Request) and content.malformed is None and is_tenant_id(content.event.tenant_id)


def loadable_events(records: Iterable[Record]) -> list[LedgerEvent]:
    """The events of a batch whose work orders could exist."""
    contents = [record.content for record in records]
    return [content.event for content in contents if isinstance(content, Request) and loadable(content)]


def named_attempts(
    events: Iterable[LedgerEvent], states: Mapping[WorkOrderKey, WorkOrder | None]
) -> set[tuple[str, str, str, int]]:
    """The attempts that a batch changes in part, or takes limits from, and that are not in memory: their rows may exist, closed."""
    named: set[tuple[str, str, str, int]] = set()
    for event in events:
        # A start replaces the row, but not if it is refused, so later events may still need the row from before.
        if event.step_id is None or not isinstance(event.payload, (StepFinished, StepFailed, StepRetryScheduled)):
            continue
        key = (event.tenant_id, event.work_order_id)
        state = states.get(key)
        # The contract is checked later, with the rest of it; what it refuses, U+0000 for one, no statement can ask for.
        known = () if state is None else state.attempts
        wanted = [event.payload.attempt_index]
        if isinstance(event.payload, StepRetryScheduled) and event.payload.attempt_index > 0:
            wanted.append(event.payload.attempt_index - 1)  # its limits may be those of the attempt before
        if "\0" not in event.step_id:
            named.update((*key, event.step_id, index) for index in wanted if (event.step_id, index) not in known)
    return named


def unsure_keys(events: Iterable[LedgerEvent], known: Known) -> set[ReplayKey]:
    """The idempotency keys of a batch that the ledger may hold already, as far as memory knows."""
    unsure: set[ReplayKey] = set()
    for event in events:
        idempotency_key = event.idempotency_key
        if idempotency_key is None:
            continue
        key = (event.tenant_id, event.work_order_id)
        found = known.get(key)
        if found is not None:
            bits = key_bits(idempotency_key)
            if found.key_bits & bits != bits:
                continue
        unsure.add((*key, idempotency_key))
    return unsure


def key_bits(idempotency_key: str) -> int:
    """The two bits of 256 that stand for a key in the bits of its work order (a Bloom filter, Bloom 1970).

    Of a work order that was seen from its first event on, a key whose bits are not both set is bound to nothing; so the
    ledger need not be asked, which costs Postgres more than deciding costs the worker.
    """
    hashed = hash(idempotency_key)
    return 1 << (hashed & 255) | 1 << (hashed >> 8 & 255)
