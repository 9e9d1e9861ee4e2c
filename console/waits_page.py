"""The page What waits: pending lists, and what somebody must act on."""

import time
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from core_tables.console.asking import moment, ports_of, text
from core_tables.console.rendering import page
from core_tables.projection.fold.pending import PendingQuery
from core_tables.schemas.vocabulary import MAX_TOP_N

_ROWS: Final = 50


def waits(request: Request) -> Response:
    """What of a tenant is due at a time (default: now), and the pending list of a requester if one is named."""
    tenant, requester, at = text(request, "tenant"), text(request, "requester"), moment(request, "at")
    now = time.time_ns() if at is None else at
    reads = ports_of(request).reads
    values: dict[str, Any] = {"pending": None, "retries": (), "timeouts": (), "leases": (), "approvals": ()}
    if tenant:
        values = {
            "pending": reads.pending(PendingQuery(tenant, requester, now, top_n=MAX_TOP_N)) if requester else None,
            "retries": reads.due_retries(tenant, now, page_size=_ROWS),
            "timeouts": reads.timed_out_steps(tenant, now, page_size=_ROWS),
            "leases": reads.expired_leases(tenant, now, page_size=_ROWS),
            "approvals": reads.expired_approvals(tenant, now, page_size=_ROWS),
        }
    return page(request, "waits.html", requester=requester, at=text(request, "at"), now=now, limit=_ROWS, **values)
