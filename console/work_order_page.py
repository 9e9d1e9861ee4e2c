"""The page of a work order: its records in order, and its state now or as of any of them."""

from typing import Any, Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from core_tables.console.asking import event_id, note_values, ports_of, text, wants_values
from core_tables.console.rendering import link, page
from core_tables.console.work_order_view import at_present, of_state, work_order_view
from core_tables.projection.fold.evolve import evolve
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.projection.postgres.ledger_reads import DecidedRecord
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas.json_form import event_to_json
from core_tables.schemas.outcomes import Accepted, Refused, Replayed

_PAGE: Final = 500
# What the payload of an event may hold that is a value of a field.
_VALUES: Final = frozenset({"value", "fields"})
_COMMON: Final = frozenset(
    {
        "schema_version",
        "tenant_id",
        "work_order_id",
        "correlation_id",
        "event_type",
        "work_order_status",
        "created_at",
        "payload",
    }
)


class TimelineEntry(NamedTuple):
    """A record of the work order: what became of it, and the address of the page as of it."""

    record: DecidedRecord
    outcome: str
    refusal: Refused | None
    first_event_id: int | None
    request_differs: bool
    status: str | None
    address: str
    chosen: bool


class EventPart(NamedTuple):
    """A part of an event; a value is hidden unless somebody asks."""

    name: str
    value: Any
    is_value: bool


def work_order(request: Request) -> Response:
    """A work order; one of another tenant is not found."""
    tenant, name, at = text(request, "tenant"), text(request, "id"), event_id(request, "at")
    first_id = event_id(request, "from")
    reads = ports_of(request).reads
    now = reads.work_order(tenant, name) if tenant and name else None
    if now is None:
        raise HTTPException(404, "This tenant has no work order with this id.")
    records = reads.records_of_correlation(tenant, now.correlation_id, first_id=first_id or 1, page_size=_PAGE)
    found, before = at_present(now), None
    if at is not None:
        state, state_before = _states_at(reads, tenant, name, at)
        if state is None:
            raise HTTPException(404, "The work order did not exist at this event.")
        found, before = of_state(state), None if state_before is None else of_state(state_before)
    values = wants_values(request)
    if values:
        note_values(request, tenant, name, at)
    timeline = [_entry(record, tenant, name, at, first_id) for record in records]
    chosen = next((entry for entry in timeline if entry.chosen), None)
    compare = before is not None and chosen is not None and chosen.outcome == "accepted"
    return page(
        request,
        "work_order.html",
        name=name,
        status=now.work_order_status,
        view=work_order_view(found, before, compare=compare),
        timeline=timeline,
        chosen=chosen,
        parts=_parts(chosen.record) if chosen is not None else [],
        at=at,
        compare=compare,
        values=values,
        now_address=link("/work-order", tenant=tenant, id=name, **{"from": first_id}),
        shown_address=link("/work-order", tenant=tenant, id=name, at=at, values="shown", **{"from": first_id}),
        hidden_address=link("/work-order", tenant=tenant, id=name, at=at, **{"from": first_id}),
        first_id=first_id,
        following=None if records.next is None else records[-1].event_id + 1,
    )


def _states_at(reads: Reads, tenant: str, name: str, at: int) -> tuple[WorkOrder | None, WorkOrder | None]:
    """The work order as it was at an event, and before it: its events up to there, folded."""
    state: WorkOrder | None = None
    before: WorkOrder | None = None
    for entry in reads.ledger(tenant, name, last_id=at).all():
        before = state
        state = evolve(state, entry.event, entry.work_order_event_id)
    return state, before


def _entry(record: DecidedRecord, tenant: str, name: str, at: int | None, first_id: int | None) -> TimelineEntry:
    outcome = record.outcome
    return TimelineEntry(
        record=record,
        outcome={Accepted: "accepted", Replayed: "replayed", Refused: "refused"}[type(outcome)],
        refusal=outcome if isinstance(outcome, Refused) else None,
        first_event_id=outcome.first_event_id if isinstance(outcome, Replayed) else None,
        request_differs=isinstance(outcome, Replayed) and outcome.request_differs,
        status=None if record.event is None else record.event.work_order_status,
        address=link("/work-order", tenant=tenant, id=name, at=record.event_id, **{"from": first_id}),
        chosen=record.event_id == at,
    )


def _parts(record: DecidedRecord) -> list[EventPart]:
    """What a record says besides what the timeline shows."""
    if record.event is None:
        known = {"idempotency_key": record.idempotency_key, "turn_id": record.turn_id}
        return [EventPart(name, value, is_value=False) for name, value in known.items() if value is not None]
    event = event_to_json(record.event)
    common = {name: value for name, value in event.items() if name not in _COMMON}
    payload = event.get("payload") or {}
    return [
        EventPart(part, value, is_value=part in _VALUES)
        for part, value in {**common, **payload}.items()
        if value is not None or part == "value"
    ]
