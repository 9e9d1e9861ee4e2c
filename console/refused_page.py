"""The pages of refused records: the newest of a tenant, and one of them with its bytes when they are asked for."""

from collections import Counter
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from core_tables.console.asking import event_id, note_values, ports_of, text, wants_values
from core_tables.console.rendering import page
from core_tables.projection.postgres.ledger_reads import RefusedRecord
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas.identity import lane_of, offset_of
from core_tables.schemas.vocabulary import MAX_I64, UNATTRIBUTED

_READ: Final = 1000
_SHOWN: Final = 100


def refused_records(request: Request) -> Response:
    """The newest refused records of a tenant, or those before one of them; all reasons, or one."""
    tenant, reason, before = text(request, "tenant"), text(request, "reason"), event_id(request, "before")
    reads = ports_of(request).reads
    read = reads.refused(tenant, before=before or MAX_I64, page_size=_READ) if tenant else []
    matching = [record for record in read if reason in ("", record.outcome.reason_code)]
    rows = matching[:_SHOWN]
    following = None
    if len(matching) > _SHOWN:
        following = rows[-1].event_id
    elif len(read) == _READ:
        *_, last = read
        following = last.event_id
    return page(
        request,
        "refused.html",
        reason=reason,
        before=before,
        rows=rows,
        read=len(read),
        all_read=len(read) < _READ,
        reasons=Counter(record.outcome.reason_code for record in read).most_common(),
        following=following,
        unattributed=UNATTRIBUTED,
    )


def refused_one(request: Request) -> Response:
    """One refused record; of another tenant, or accepted, it is not found."""
    tenant, asked = text(request, "tenant"), event_id(request, "id")
    found = None if asked is None or not tenant else _refused_record(ports_of(request).reads, tenant, asked)
    if found is None:
        raise HTTPException(404, "This tenant has no refused record with this id.")
    record = None
    if wants_values(request):
        note_values(request, tenant, found.work_order_id, found.event_id)
        record = ports_of(request).record(found.event_id)
        if record is None:
            raise HTTPException(404, "The ledger topic has no record there: it was deleted from the topic.")
    place = {"lane": lane_of(found.event_id), "offset": offset_of(found.event_id)}
    return page(request, "refused_record.html", found=found, place=place, record=record)


def _refused_record(reads: Reads, tenant: str, asked: int) -> RefusedRecord | None:
    for record in reads.refused(tenant, before=min(asked + 1, MAX_I64), page_size=1):
        if record.event_id == asked:
            return record
    return None
