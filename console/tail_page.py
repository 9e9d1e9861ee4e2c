"""The page Tail, and the stream that its script follows: server-sent events, one for each outcome."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from core_tables.console.asking import ports_of, text
from core_tables.console.audit_tail import AuditFeed, FedRecord, Subscription
from core_tables.console.rendering import link, page
from core_tables.console.shown import clock
from core_tables.schemas.events import AuditEvent

ROWS_PER_SECOND: Final = 200
MAX_TAILS: Final = 32
_AT_FIRST: Final = 50
_ALIVE_S: Final = 10.0


def tail(request: Request) -> Response:
    """The page; its rows come by the stream."""
    tenant, work_order = text(request, "tenant"), text(request, "work_order")
    return page(
        request,
        "tail.html",
        work_order=work_order,
        stream=link("/tail/events", tenant=tenant, work_order=work_order),
        rows_per_second=ROWS_PER_SECOND,
    )


async def tail_events(request: Request) -> Response:
    """The outcomes as they are published; after a break from where the browser was, as its header Last-Event-ID says."""
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    feed = ports_of(request).feed
    if feed.followers >= MAX_TAILS:
        raise HTTPException(503, f"{MAX_TAILS} browsers follow already. Close a tail that nobody looks at.")
    wanted = _Wanted(text(request, "tenant"), text(request, "work_order"))
    return StreamingResponse(
        _stream(feed, wanted, request.headers.get("last-event-id", "")),
        media_type="text/event-stream",
        headers={"x-accel-buffering": "no"},
    )


class _Wanted:
    """Which outcomes a tail shows."""

    def __init__(self, tenant: str, work_order: str) -> None:
        self._tenant, self._work_order = tenant, work_order

    def of(self, records: Iterable[FedRecord]) -> list[AuditEvent]:
        """The outcomes among some records; only what may be one is decoded."""
        likely = [record for record in records if self._tenant in ("", record.tenant_id)]
        events = [event for record in likely if (event := record.event) is not None]
        return [event for event in events if self._work_order in ("", event.work_order_id)]


class _Limit:
    """At most ROWS_PER_SECOND rows in a second; what comes above that is counted."""

    def __init__(self) -> None:
        self._second, self._rows = 0, 0

    def allowed(self, events: list[AuditEvent]) -> list[AuditEvent]:
        """Those of the events that may be sent now."""
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._rows = second, 0
        sent = events[: ROWS_PER_SECOND - self._rows]
        self._rows += len(sent)
        return sent


async def _stream(feed: AuditFeed, wanted: _Wanted, last_event_id: str) -> AsyncIterator[str]:
    subscription, remembered = feed.subscribe()
    try:
        yield "retry: 1000\n\n"
        for message in _caught_up(wanted.of(remembered), last_event_id):
            yield message
        limit = _Limit()
        while True:
            batch = await _next_batch(subscription)
            if batch is None:
                yield _message("alive", {"failure": feed.failure})
                continue
            events = wanted.of(batch)
            sent = limit.allowed(events)
            for event in sent:
                yield _row(event)
            left_out = len(events) - len(sent) + subscription.left_out
            subscription.left_out = 0
            if left_out:
                yield _message("left_out", {"rows": left_out})
    finally:
        feed.unsubscribe(subscription)


async def _next_batch(subscription: Subscription) -> list[FedRecord] | None:
    try:
        return await asyncio.wait_for(subscription.queue.get(), _ALIVE_S)
    except TimeoutError:
        return None


def _caught_up(remembered: list[AuditEvent], last_event_id: str) -> list[str]:
    """What a browser needs before what comes: the newest rows, or after a break those that it missed."""
    if not last_event_id:
        return [_row(event) for event in remembered[-_AT_FIRST:]]
    at = next((at for at, event in enumerate(remembered) if str(event.event_id) == last_event_id), None)
    if at is None:
        return [_message("gap", {}), *(_row(event) for event in remembered[-_AT_FIRST:])]
    return [_row(event) for event in remembered[at + 1 :][-ROWS_PER_SECOND:]]


def _row(event: AuditEvent) -> str:
    row = {
        "event_id": str(event.event_id),
        "tenant_id": event.tenant_id,
        "work_order_id": event.work_order_id,
        "event_type": event.event_type,
        "outcome": event.outcome,
        "status": event.status_after,
        "reason": event.outcome_reason,
        "sentence": event.payload_min.get("sentence"),
        "address": _address(event),
        "time": clock(event.created_at),
    }
    return f"id: {event.event_id}\n{_message('outcome', row)}"


def _address(event: AuditEvent) -> str:
    if event.outcome == "REFUSED":
        return link("/refused/record", tenant=event.tenant_id, id=event.event_id)
    return link("/work-order", tenant=event.tenant_id, id=event.work_order_id, at=event.event_id)


def _message(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
