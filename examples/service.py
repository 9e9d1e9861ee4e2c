"""A web service over the ledger, with FastAPI: create a work order, set a field, read it, list what is pending.

    pip install fastapi uvicorn
    uvicorn --app-dir examples service:app

A worker must be running. It also runs under gunicorn, with or without `--preload`:

    pip install fastapi gunicorn
    gunicorn --pythonpath examples service:app -k asgi -w 2
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse
from msgspec import to_builtins
from pydantic import BaseModel

from core_tables import (
    AsyncLedger,
    AsyncReceipt,
    ContractError,
    PendingQuery,
    Reads,
    Refused,
    Replayed,
    UnavailableError,
)

TIMEOUT_S = 5.0
REASON = 1  # reason codes are your own


@asynccontextmanager
async def connected(app: FastAPI) -> AsyncIterator[None]:
    """One ledger for all requests of a process."""
    async with await AsyncLedger.connect() as ledger:
        app.state.ledger = ledger
        yield


app = FastAPI(lifespan=connected)


class NewOrder(BaseModel):
    """The body of a request that creates a work order."""

    correlation_id: int
    requester_user_id: str
    missing_fields: list[str] = []


class Value(BaseModel):
    """The body of a request that sets a field."""

    value: str | int | bool | None


async def answered(receipt: AsyncReceipt) -> dict[str, Any]:
    """The answer to a caller: the event id, and whether the same request came before. A refusal is a conflict."""
    outcome = await receipt.outcome(TIMEOUT_S)
    if isinstance(outcome, Refused):
        raise HTTPException(409, {"reason_code": outcome.reason_code, "sentence": outcome.sentence})
    if outcome is None:
        raise HTTPException(504, "not decided yet; send the request again with the same key")
    first = outcome.first_event_id if isinstance(outcome, Replayed) else await receipt.event_id()
    return {"event_id": first, "replayed": isinstance(outcome, Replayed)}


@app.exception_handler(ContractError)
async def wrong(_: Request, error: ContractError) -> JSONResponse:
    """A request that breaks the contract, before anything was sent."""
    return JSONResponse({"reason_code": error.reason_code, "field": error.field, "sentence": error.message}, 422)


@app.exception_handler(UnavailableError)
async def unavailable(_: Request, error: UnavailableError) -> JSONResponse:
    """Kafka or Postgres does not answer; the same request may be sent again."""
    return JSONResponse({"detail": str(error)}, 503)


@app.post("/{tenant_id}/orders/{work_order_id}")
async def create(request: Request, tenant_id: str, work_order_id: str, new: NewOrder) -> dict[str, Any]:
    """Create a work order; a second time it is a replay."""
    order = request.app.state.ledger.work_order(tenant_id, work_order_id, reason_code=REASON)
    return await answered(await order.create(**new.model_dump()))


@app.put("/{tenant_id}/orders/{work_order_id}/fields/{field}")
async def set_field(
    request: Request,
    tenant_id: str,
    work_order_id: str,
    field: str,
    new: Value,
    idempotency_key: Annotated[str, Header()],
) -> dict[str, Any]:
    """Set a field. The caller names the request, so that it can be sent again."""
    order = request.app.state.ledger.work_order(tenant_id, work_order_id, reason_code=REASON)
    return await answered(await order.set_field(field, new.value, idempotency_key=idempotency_key))


@app.get("/{tenant_id}/orders/{work_order_id}")
async def read(request: Request, tenant_id: str, work_order_id: str, at_least: int = 0) -> Any:
    """The current record, and if asked for, not from before an event."""
    ledger: AsyncLedger = request.app.state.ledger
    record = await ledger.read(Reads.current, tenant_id, work_order_id, at_least=at_least)
    if record is None:
        raise HTTPException(404, "there is no such work order")
    # A JSON number does not hold a correlation_id.
    return {**to_builtins(record), "correlation_id": str(record.correlation_id)}


@app.get("/{tenant_id}/pending/{requester_user_id}")
async def pending(request: Request, tenant_id: str, requester_user_id: str, at_least: int = 0) -> list[Any]:
    """The pending list of a user, from the cache if there is one."""
    ledger: AsyncLedger = request.app.state.ledger
    query = PendingQuery(tenant_id, requester_user_id, now=time.time_ns())
    answer = await ledger.read(Reads.pending, query, at_least=at_least)
    return [{**to_builtins(offer), "correlation_id": str(offer.correlation_id)} for offer in answer.offers]
