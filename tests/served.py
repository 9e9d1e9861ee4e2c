"""An application that connects while it is imported: under `gunicorn --preload` before the fork, and else in each worker."""

import os
from typing import Any

from fastapi import FastAPI

from core_tables import AsyncLedger, Ledger

from .builders import make

ledger = AsyncLedger(Ledger.connect())
app = FastAPI()


@app.post("/{tenant_id}/{work_order_id}")
async def append(tenant_id: str, work_order_id: str) -> dict[str, Any]:
    """Append, await the outcome, and read: what this process saw."""
    event = make("FIELD_SET", tenant_id=tenant_id, work_order_id=work_order_id)
    outcome = await (await ledger.append(event)).outcome(30)
    record = await ledger.current(tenant_id, work_order_id)
    seen = None if record is None else (record.tenant_id, record.work_order_id)
    return {"process": os.getpid(), "outcome": type(outcome).__name__, "seen": seen}
