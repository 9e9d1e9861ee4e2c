"""The commands that list work orders: pending, by status, closed, waiting for an approval."""

from typing import Any

import click
from msgspec.structs import asdict

from core_tables.cli import output, wiring
from core_tables.cli.due import approval_json
from core_tables.cli.options import after_option, at, cursor_text, json_option, limit_option, now_option, tenant_option
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.read_types import CurrentRecord, record_json
from core_tables.projection.postgres.tenant_reads import Cursor
from core_tables.schemas.vocabulary import (
    DEFAULT_TOP_N,
    MAX_TOP_N,
    NS_PER_HOUR,
    PENDING_STATUSES,
    STATUSES,
    WorkOrderStatus,
)
from core_tables.settings.environment import Settings


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.option("--requester", required=True, metavar="REQUESTER_USER_ID", help="The user whose work orders are listed.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(sorted(PENDING_STATUSES)),
    help="Only work orders with this status; may be repeated. Default: all three.",
)
@click.option("--window-hours", default=30 * 24, show_default=True, help="How recently a record must have changed.")
@click.option(
    "--top",
    type=click.IntRange(1, MAX_TOP_N),
    default=DEFAULT_TOP_N,
    show_default=True,
    help="How many records at most.",
)
@click.option(
    "--at-least", type=int, default=0, metavar="EVENT_ID", help="Use a cached list only if it includes this event."
)
@now_option
@json_option
def pending(
    tenant: str,
    requester: str,
    statuses: tuple[str, ...],
    window_hours: int,
    top: int,
    at_least: int,
    now: int | None,
    as_json: bool,
) -> None:
    """Show the pending list of a requester, most recent first."""
    chosen = frozenset(statuses) or PENDING_STATUSES
    query = PendingQuery(tenant, requester, at(now), chosen, window_hours * NS_PER_HOUR, top)
    answer = wiring.reads(Settings()).pending(query, at_least=at_least)
    records = [{**asdict(offer.record), "hot": offer.hot} for offer in answer.offers]
    if as_json:
        output.emit_json({"position": answer.position, "from_cache": answer.from_cache, "records": records})
    else:
        output.emit_records(f"pending of {requester}", records)


@click.command("list", epilog=output.EXIT_CODES)
@tenant_option
@click.option("--status", required=True, type=click.Choice(STATUSES), help="Only work orders with this status.")
@after_option
@limit_option
@json_option
def list_by_status(tenant: str, status: WorkOrderStatus, after: Cursor | None, limit: int, as_json: bool) -> None:
    """List the work orders in one status, by work_order_id."""
    page = wiring.reads(Settings()).current_by_status(tenant, status, after=after, page_size=limit)
    if as_json:
        output.emit_list("", [record_json(found) for found in page], as_json)
    else:
        output.emit_records(f"{status} work orders", [_summary(found) for found in page])
    if page.next is not None:
        output.emit_more(f"--after {cursor_text(page.next)}", as_json)


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.option(
    "--after", "event_id", type=click.IntRange(min=0), default=0, metavar="EVENT_ID", help="After this event."
)
@limit_option
@json_option
def closed(tenant: str, event_id: int, limit: int, as_json: bool) -> None:
    """List the work orders that were closed after an event.

    In the order in which they were closed, each with the event that closed it.
    """
    found = wiring.reads(Settings()).closed_after(tenant, event_id, page_size=limit)
    shown = record_json if as_json else _summary
    records = [{"closing_event_id": each.closing_event_id, **shown(each)} for each in found]
    output.emit_list("closed work orders", records, as_json)
    if found.next is not None:
        *_, last = found
        output.emit_more(f"--after {last.closing_event_id}", as_json)


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.option("--target", required=True, metavar="TARGET_USER_ID", help="The user whose approval is waited for.")
@after_option
@limit_option
@json_option
def approvals(tenant: str, target: str, after: Cursor | None, limit: int, as_json: bool) -> None:
    """List the work orders that wait for a user's approval.

    The first to expire comes first; expired ones are listed too.
    """
    page = wiring.reads(Settings()).awaited_approvals(tenant, target, after=after, page_size=limit)
    output.emit_list(f"approvals of {target}", [approval_json(found) for found in page], as_json)
    if page.next is not None:
        output.emit_more(f"--after {cursor_text(page.next)}", as_json)


def _summary(found: CurrentRecord) -> dict[str, Any]:
    names = ("work_order_id", "work_order_status", "requester_user_id", "intent_type", "last_event_id", "closed_at")
    record = record_json(found)
    return {name: record[name] for name in names}
