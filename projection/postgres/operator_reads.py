"""What an operator reads over all tenants: which there are, and why records of theirs were refused."""

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple, TypeVar

from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.fetch import fetch
from core_tables.projection.postgres.ledger_reads import RefusedRecord, refused_record
from core_tables.projection.postgres.row_types import OutcomeRow
from core_tables.projection.postgres.tenant_reads import MAX_PAGE, check_page, checked_parameters, checked_values
from core_tables.schemas.vocabulary import MAX_I64

_R = TypeVar("_R")


class TenantCounts(NamedTuple):
    """A tenant, and how many of its work orders are in each open status; 1,000 stands for any larger number."""

    tenant_id: str
    draft: int
    clarify: int
    confirm: int
    executing: int


class RefusalCount(NamedTuple):
    """Why records of a tenant were refused: how many of its newest 1,000 refused records for one reason, and the newest."""

    tenant_id: str
    reason_code: str
    field: str | None
    refused: int
    newest_event_id: int


def tenants(connections: Sequence[Connection], *, after: str = "", page_size: int = MAX_PAGE) -> list[TenantCounts]:
    """A page of the tenants that have work orders, by tenant_id, after a tenant. Raises UnavailableError or SetupError."""
    check_page(page_size)
    checked_values(after=after)
    return sorted(_from_each(connections, TenantCounts, "read_tenants", after, page_size))[:page_size]


def refusal_counts(
    connections: Sequence[Connection], *, after: str = "", page_size: int = MAX_PAGE
) -> list[RefusalCount]:
    """Of a page of the tenants that have refused records, by tenant_id, after a tenant: the counts by reason and field."""
    check_page(page_size)
    checked_values(after=after)
    found = _from_each(connections, RefusalCount, "read_refusal_counts", after, page_size)
    if len(connections) == 1:
        return found
    chosen = set(sorted({count.tenant_id for count in found})[:page_size])
    together: dict[tuple[str, str, str], RefusalCount] = {}  # records of no tenant may be in each database
    for count in found:
        if count.tenant_id in chosen:
            key = (count.tenant_id, count.reason_code, count.field or "")
            known = together.get(key, count._replace(refused=0))
            newest = max(known.newest_event_id, count.newest_event_id)
            together[key] = known._replace(refused=known.refused + count.refused, newest_event_id=newest)
    return sorted(together.values(), key=lambda count: (count.tenant_id, -count.refused, -count.newest_event_id))


def refused_of_tenant(
    connections: Sequence[Connection], tenant_id: str, *, before: int = MAX_I64, page_size: int = MAX_PAGE
) -> list[RefusedRecord]:
    """A page of the refused records of a tenant, newest first, below an event id; `_unattributed` is a tenant here."""
    check_page(page_size)
    checked_parameters(tenant_id)
    rows = _from_each(connections, OutcomeRow, "read_refused", tenant_id, before, page_size)
    return [refused_record(row) for row in sorted(rows, key=attrgetter("event_id"), reverse=True)[:page_size]]


def _from_each(connections: Sequence[Connection], kind: type[_R], statement: str, *parameters: int | str) -> list[_R]:
    """What each database answers."""
    rows: list[_R] = []
    for connection in connections:
        with translated(), connection.transaction():
            rows += fetch(connection, kind, statement, *parameters)
    return rows
