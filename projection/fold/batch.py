"""Folds the records of one batch over the states that were loaded for it. Pure: data in, data out.

The store loads what a batch `Needs`, the fold decides record after record, and the store writes what it `Changed`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from core_tables.projection.fold.decide import decide
from core_tables.projection.fold.evolve import evolve
from core_tables.projection.fold.values import Changed, Decided, First, Folded, Loaded, Record, Request
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import offset_of
from core_tables.schemas.outcomes import Accepted, Outcome, refused
from core_tables.schemas.validation import malformed_identity, malformed_key
from core_tables.schemas.vocabulary import UNATTRIBUTED, WorkOrderStatus
from core_tables.schemas.wire import Schemas, Unreadable, is_tenant_id, read_record

PART: Final = 500  # records that are folded before Postgres is given them to write


def read_content(
    event_id: int, key: bytes | None, value: bytes | None, partition: int, partitions: int, schemas: Schemas
) -> Request | Unreadable:
    """What can be read of a record; `schemas` are those of its lane. Raises UnknownSchemaError."""
    read = read_record(key, value, partition, partitions, offset_of(event_id), schemas)
    if isinstance(read, Unreadable):
        return read
    return Request(
        event_id=event_id,
        event=read.event,
        payload_bytes=read.payload_bytes,
        malformed=malformed_identity(read.event),
    )


def fold_batch(records: Iterable[Record], loaded: Loaded) -> Folded:
    """Decide about each record in order, and evolve the work orders. `loaded` is changed on the way."""
    folded = Folded(decided=[], changed={})
    folded.decided.extend(_fold(records, loaded, folded.changed))
    return folded


def fold_in_parts(
    records: Sequence[Record], loaded: Loaded, changed: Changed, size: int = PART
) -> Iterator[list[Decided]]:
    """The same, part by part: yield the outcomes of each, and add to `changed` what it changed."""
    for start in range(0, len(records), size):
        yield _fold(records[start : start + size], loaded, changed)


def _fold(records: Iterable[Record], loaded: Loaded, changed: Changed) -> list[Decided]:
    states, firsts, owners = loaded.states, loaded.firsts, loaded.owners
    decided: list[Decided] = []
    for record in records:
        content = record.content
        if isinstance(content, Unreadable):
            decided.append(decided_unreadable(record, content, refused(content.violation)))
            continue
        event = content.event
        key = (event.tenant_id, event.work_order_id)
        replay_key = None if event.idempotency_key is None else (*key, event.idempotency_key)
        before = states.get(key)
        first = firsts.get(replay_key) if replay_key is not None else None
        owner = owners.get((event.tenant_id, event.correlation_id)) if before is None else None
        outcome = decide(before, content, first, owner)
        status: WorkOrderStatus | None = None
        if isinstance(outcome, Accepted):
            if before is None:
                owners[event.tenant_id, event.correlation_id] = event.work_order_id
            else:
                status = before.last.work_order_status
            states[key] = after = evolve(before, event, content.event_id)
            if key in changed:
                before, _ = changed[key]
            changed[key] = (before, after)
            if replay_key is not None:
                firsts[replay_key] = First(event_id=content.event_id, event=event)
        decided.append(decided_request(record, content, outcome, status))
    return decided


def decided_request(
    record: Record, request: Request, outcome: Outcome, status_before: WorkOrderStatus | None
) -> Decided:
    """The outcome of a record that could be read, with as much of its event as may be stored and shown."""
    event = request.event
    if not is_tenant_id(event.tenant_id):
        return _decided(record, UNATTRIBUTED, None, outcome, None)
    if request.malformed is not None:
        event = _without_malformed(event, request.malformed.field)
    return _decided(record, event.tenant_id, event, outcome, status_before)


def decided_unreadable(record: Record, unreadable: Unreadable, outcome: Outcome) -> Decided:
    """The outcome of a record that could not be read."""
    return _decided(record, unreadable.tenant_id, None, outcome, None)


def _without_malformed(event: LedgerEvent, field: str | None) -> LedgerEvent:
    """An event without the names that no work order and no key could have; `field` is the first that is malformed."""
    return replace(
        event,
        work_order_id="" if field == "work_order_id" else event.work_order_id,
        idempotency_key=None if malformed_key(event) is not None else event.idempotency_key,
    )


def _decided(
    record: Record,
    tenant_id: str,
    event: LedgerEvent | None,
    outcome: Outcome,
    status_before: WorkOrderStatus | None,
) -> Decided:
    return Decided(
        event_id=record.event_id,
        tenant_id=tenant_id,
        event=event,
        outcome=outcome,
        status_before=status_before,
        broker_time=record.broker_time,
        traceparent=record.traceparent,
    )
