"""The commands that show what is due."""

import shlex
from collections.abc import Callable, Mapping
from typing import Any, Final, assert_never

import click
from msgspec import Struct
from msgspec.structs import asdict

from core_tables.cli import output, wiring
from core_tables.cli.formats import Format, emit_list, emit_more
from core_tables.cli.options import (
    after_option,
    at,
    cursor_text,
    format_option,
    limit_option,
    now_option,
    tenant_option,
)
from core_tables.projection.postgres.read_types import CurrentRecord
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.postgres.tenant_reads import Cursor, Page
from core_tables.settings.environment import Settings

Found = Page[dict[str, Any]]


def _retries(reads: Reads, tenant: str, now: int, after: Cursor | None, limit: int) -> Found:
    return reads.due_retries(tenant, now, after=after, page_size=limit).made(of_tenant)


def _timeouts(reads: Reads, tenant: str, now: int, after: Cursor | None, limit: int) -> Found:
    return reads.timed_out_steps(tenant, now, after=after, page_size=limit).made(of_tenant)


def _leases(reads: Reads, tenant: str, now: int, after: Cursor | None, limit: int) -> Found:
    return reads.expired_leases(tenant, now, after=after, page_size=limit).made(of_tenant)


def of_tenant(found: Struct) -> dict[str, Any]:
    """A record without the tenant, which the caller named."""
    return {name: value for name, value in asdict(found).items() if name != "tenant_id"}


def _approvals(reads: Reads, tenant: str, now: int, after: Cursor | None, limit: int) -> Found:
    return reads.expired_approvals(tenant, now, after=after, page_size=limit).made(approval_json)


def approval_json(work_order: CurrentRecord) -> dict[str, Any]:
    """What a work order waits for."""
    return {
        "work_order_id": work_order.work_order_id,
        "correlation_id": str(work_order.correlation_id),
        "work_order_status": work_order.work_order_status,
        "request_id": work_order.external_approval_request_id,
        "target_user_id": work_order.external_approval_target_user_id,
        "expires_at": work_order.external_approval_expires_at,
        "last_event_id": work_order.last_event_id,
    }


DUE_KINDS: Final[Mapping[str, Callable[[Reads, str, int, Cursor | None, int], Found]]] = {
    "retries": _retries,
    "timed_out_steps": _timeouts,
    "expired_leases": _leases,
    "expired_approvals": _approvals,
}


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@now_option
@click.option("--only", type=click.Choice(list(DUE_KINDS)), help="Show one kind only.")
@after_option
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many of each kind at most."
)
@format_option
def due(tenant: str, now: int | None, only: str | None, after: Cursor | None, limit: int, form: Format) -> None:
    """Show what is due: retries, timeouts, leases, approvals.

    Oldest first, and of open work orders only.
    """
    if after is not None and only is None:
        raise click.UsageError("a cursor belongs to one kind: give --only too")
    reads, when = wiring.reads_of_tables(Settings()), at(now)
    found = {kind: read(reads, tenant, when, after, limit) for kind, read in DUE_KINDS.items() if only in (None, kind)}
    match form:
        case Format.JSON:
            output.emit_json({**found, "next": {kind: page.next for kind, page in found.items()}})
            return
        case Format.CSV:
            emit_list("due", [{"kind": kind, **row} for kind, page in found.items() for row in page], form)
        case Format.TABLE:
            for kind, page in found.items():
                emit_list(kind.replace("_", " "), page, form)
        case _:
            assert_never(form)
    for kind, page in found.items():
        if page.next is not None:
            emit_more(f"--only {kind} --after {cursor_text(page.next)}", form)


@click.command(epilog=output.EXIT_CODES)
@now_option
@click.option("--after", default="", metavar="TENANT_ID", help="Start after this tenant.")
@limit_option
@format_option
def due_tenants(now: int | None, after: str, limit: int, form: Format) -> None:
    """Show which tenants have something due, and how much.

    As the role core_tables_scheduler, which sees nothing else. A count of 1000 means at least as many.
    """
    found = wiring.scheduler_reads(Settings()).due_tenants(at(now), after=(after,), page_size=limit)
    emit_list("tenants with something due", [tenant._asdict() for tenant in found], form)
    if found.next is not None:
        *_, last = found
        emit_more(f"--after {shlex.quote(last.tenant_id)}", form)
