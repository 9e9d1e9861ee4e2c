"""The page Find: a work order or a record, by whatever somebody has of it."""

from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from core_tables.console.asking import ports_of, text
from core_tables.console.rendering import link, page
from core_tables.projection.postgres.ledger_reads import LedgerEntry, RefusedRecord
from core_tables.projection.postgres.read_types import CurrentRecord
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas.outcomes import Refused, Replayed
from core_tables.schemas.vocabulary import MAX_I64, MAX_U128


class Hit(NamedTuple):
    """Something that was found: by what, where its page is, and in words what it is."""

    by: str
    address: str
    name: str
    about: str
    state: str


def find_records(request: Request) -> Response:
    """Look a text up as everything that it may be."""
    tenant, asked, of = text(request, "tenant"), text(request, "q"), text(request, "work_order")
    hits = list(_found(ports_of(request).reads, tenant, asked, of)) if tenant and asked else []
    return page(request, "find.html", asked=asked, of=of, hits=hits)


def _found(reads: Reads, tenant: str, asked: str, of: str) -> list[Hit]:
    hits: list[Hit] = []
    by_name = reads.current(tenant, asked)
    if by_name is not None:
        hits.append(_work_order("Work order id", by_name))
    if of:
        bound = reads.bound_event(tenant, of, asked)
        if bound is not None:
            hits.append(_event("Idempotency key", tenant, bound))
    if asked.isascii() and asked.isdigit() and len(asked) <= len(str(MAX_U128)):
        number = int(asked)
        if 0 < number <= MAX_U128:
            by_correlation = reads.current_by_correlation(tenant, number)
            if by_correlation is not None:
                hits.append(_work_order("Correlation id", by_correlation))
        if 0 < number <= MAX_I64:
            hits.extend(_by_event_id(reads, tenant, number))
    return hits


def _by_event_id(reads: Reads, tenant: str, event_id: int) -> list[Hit]:
    outcome = reads.outcome(tenant, event_id)
    if outcome is None:
        return []
    if isinstance(outcome, Refused):
        return [_refusal(tenant, record) for record in reads.refused(tenant, before=event_id + 1, page_size=1)]
    of = outcome.first_event_id if isinstance(outcome, Replayed) else event_id
    entries = reads.ledger(tenant, first_id=of, last_id=of, page_size=1)
    if isinstance(outcome, Replayed):
        return [_event(f"Event id {event_id}, a replay of", tenant, entry) for entry in entries]
    return [_event("Event id", tenant, entry) for entry in entries]


def _work_order(by: str, found: CurrentRecord) -> Hit:
    tenant, name = found.tenant_id, found.work_order_id
    about = " · ".join(part for part in (found.intent_type, found.requester_user_id) if part)
    return Hit(by, link("/work-order", tenant=tenant, id=name), name, about, found.work_order_status)


def _event(by: str, tenant: str, found: LedgerEntry) -> Hit:
    event = found.event
    address = link("/work-order", tenant=tenant, id=event.work_order_id, at=found.work_order_event_id)
    about = f"{event.event_type} of {event.work_order_id}"
    return Hit(by, address, str(found.work_order_event_id), about, event.work_order_status)


def _refusal(tenant: str, found: RefusedRecord) -> Hit:
    address = link("/refused/record", tenant=tenant, id=found.event_id)
    about = found.outcome.reason_code + (f" · {found.work_order_id}" if found.work_order_id else "")
    return Hit("Event id", address, str(found.event_id), about, "refused")
