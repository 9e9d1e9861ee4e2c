"""What an operator reads over all tenants: which there are, and why records of theirs were refused."""

from typing import NamedTuple

from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.fetch import fetch
from core_tables.projection.postgres.ledger_reads import RefusedRecord, refused_record
from core_tables.projection.postgres.row_types import OutcomeRow
from core_tables.projection.postgres.tenant_reads import MAX_PAGE, check_page, checked_parameters, checked_values
from core_tables.schemas.vocabulary import MAX_I64


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


def tenants(connection: Connection, *, after: str = "", page_size: int = MAX_PAGE) -> list[TenantCounts]:
    """A page of the tenants that have work orders, by tenant_id, after a tenant. Raises UnavailableError or SetupError."""
    check_page(page_size)
    checked_values(after=after)
    with translated(), connection.transaction():
        return fetch(connection, TenantCounts, "read_tenants", after, page_size)


def refusal_counts(connection: Connection, *, after: str = "", page_size: int = MAX_PAGE) -> list[RefusalCount]:
    """Of a page of the tenants that have refused records, by tenant_id, after a tenant: the counts by reason and field."""
    check_page(page_size)
    checked_values(after=after)
    with translated(), connection.transaction():
        return fetch(connection, RefusalCount, "read_refusal_counts", after, page_size)


def refused_of_tenant(
    connection: Connection, tenant_id: str, *, before: int = MAX_I64, page_size: int = MAX_PAGE
) -> list[RefusedRecord]:
    """A page of the refused records of a tenant, newest first, below an event id; `_unattributed` is a tenant here."""
    check_page(page_size)
    checked_parameters(tenant_id)
    with translated(), connection.transaction():
        return [
            refused_record(row) for row in fetch(connection, OutcomeRow, "read_refused", tenant_id, before, page_size)
        ]
