"""The commands that list work orders: pending, by status, closed, waiting for an approval."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

import click
from msgspec.structs import asdict

from core_tables.cli import output, wiring
from core_tables.cli.due import approval_json
from core_tables.cli.formats import Format, emit_list, emit_more
from core_tables.cli.options import (
    after_option,
    at,
    cursor_text,
    format_option,
    limit_option,
    now_option,
    tenant_option,
    time_option,
)
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.read_types import ClosedWorkOrder, record_json
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.postgres.tenant_reads import MAX_PAGE, Cursor
from core_tables.schemas.vocabulary import (
    DEFAULT_TOP_N,
    MAX_TOP_N,
    NS_PER_HOUR,
    PENDING_STATUSES,
    STATUSES,
    WorkOrderStatus,
)
from core_tables.settings.environment import Settings

_COLUMNS: Final = (
    "work_order_id",
    "work_order_status",
    "requester_user_id",
    "intent_type",
    "last_updated_at",
    "closed_at",
)
_PAGE: Final = 100


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
@format_option
def pending(
    tenant: str,
    requester: str,
    statuses: tuple[str, ...],
    window_hours: int,
    top: int,
    at_least: int,
    now: int | None,
    form: Format,
) -> None:
    """Show the pending list of a requester, most recent first."""
    chosen = frozenset(statuses) or PENDING_STATUSES
    query = PendingQuery(tenant, requester, at(now), chosen, window_hours * NS_PER_HOUR, top)
    answer = wiring.reads(Settings()).pending(query, at_least=at_least)
    records = [{**asdict(offer), "correlation_id": str(offer.correlation_id)} for offer in answer.offers]
    if form is Format.JSON:
        output.emit_json({"position": answer.position, "from_cache": answer.from_cache, "records": records})
    else:
        columns = ("work_order_id", "work_order_status", "intent_type", "missing_fields", "last_updated_at", "hot")
        emit_list(f"pending of {requester}", records, form, columns)


@click.command("list", epilog=output.EXIT_CODES)
@tenant_option
@click.option("--status", type=click.Choice(STATUSES), help="Those in this status, by work_order_id.")
@click.option("--requester", metavar="REQUESTER_USER_ID", help="The open ones of this user, most recent first.")
@time_option("--closed-since", help="Those that were closed since this time, most recent first.")
@after_option
@limit_option
@format_option
def list_work_orders(
    tenant: str,
    status: WorkOrderStatus | None,
    requester: str | None,
    closed_since: int | None,
    after: Cursor | None,
    limit: int,
    form: Format,
) -> None:
    """List work orders: by status, of a requester, or closed lately.

    Give one of --status, --requester and --closed-since; --requester may have a --status too. Times are the created_at of
    events. The list of --closed-since ends at the first work order that was closed earlier.
    """
    if closed_since is not None and not (status or requester):
        _refuse_cursor(after)
        _list_closed(tenant, closed_since, limit, form)
    elif requester is not None and closed_since is None:
        _refuse_cursor(after)
        _list_of_requester(tenant, requester, status, limit, form)
    elif status is not None and requester is None and closed_since is None:
        page = wiring.reads_of_tables(Settings()).current_by_status(tenant, status, after=after, page_size=limit)
        emit_list(f"{status} work orders", list(map(record_json, page)), form, _COLUMNS)
        if page.next is not None:
            emit_more(f"--after {cursor_text(page.next)}", form)
    else:
        raise click.UsageError(
            "which work orders? Give --status, or --requester, or --closed-since; only --requester may have a --status too"
        )


def _refuse_cursor(after: Cursor | None) -> None:
    if after is not None:
        raise click.UsageError("--after goes with --status alone; give a larger --limit to see more")


def _list_of_requester(tenant: str, requester: str, status: WorkOrderStatus | None, limit: int, form: Format) -> None:
    found = wiring.reads_of_tables(Settings()).open_of_requester(tenant, requester, page_size=MAX_PAGE)
    chosen = sorted(
        (each for each in found if status in (None, each.work_order_status)),
        key=lambda each: each.last_updated_at,
        reverse=True,
    )
    emit_list(f"open work orders of {requester}", list(map(record_json, chosen[:limit])), form, _COLUMNS)
    if len(found) == MAX_PAGE:
        output.say(f"{requester} has {MAX_PAGE} open work orders or more, and only {MAX_PAGE} of them were looked at")
    elif len(chosen) > limit:
        emit_more(f"--limit {len(chosen)}", form)


def _list_closed(tenant: str, since: int, limit: int, form: Format) -> None:
    found = list(islice(_closed_since(wiring.reads_of_tables(Settings()), tenant, since), limit + 1))
    emit_list("closed work orders", list(map(record_json, found[:limit])), form, ("closing_event_id", *_COLUMNS))
    if len(found) > limit:
        emit_more("a larger --limit", form)


def _closed_since(reads: Reads, tenant: str, since: int) -> Iterator[ClosedWorkOrder]:
    """Work orders that are closed, each once, the last to be closed first, down to the first that was closed before `since`."""
    seen: set[str] = set()
    for each in reads.closed_before(tenant, page_size=_PAGE).all():
        if each.closed_at is None or each.work_order_id in seen:  # opened again, or closed a second time
            continue
        if each.closed_at < since:
            return
        seen.add(each.work_order_id)
        yield each


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.option(
    "--after", "event_id", type=click.IntRange(min=0), default=0, metavar="EVENT_ID", help="After this event."
)
@limit_option
@format_option
def closed(tenant: str, event_id: int, limit: int, form: Format) -> None:
    """List the work orders that were closed after an event.

    In the order in which they were closed, each with the event that closed it.
    """
    found = wiring.reads_of_tables(Settings()).closed_after(tenant, event_id, page_size=limit)
    emit_list("closed work orders", list(map(record_json, found)), form, ("closing_event_id", *_COLUMNS))
    if found.next is not None:
        *_, last = found
        emit_more(f"--after {last.closing_event_id}", form)


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.option("--target", required=True, metavar="TARGET_USER_ID", help="The user whose approval is waited for.")
@after_option
@limit_option
@format_option
def approvals(tenant: str, target: str, after: Cursor | None, limit: int, form: Format) -> None:
    """List the work orders that wait for a user's approval.

    The first to expire comes first; expired ones are listed too.
    """
    page = wiring.reads_of_tables(Settings()).awaited_approvals(tenant, target, after=after, page_size=limit)
    emit_list(f"approvals of {target}", [approval_json(found) for found in page], form)
    if page.next is not None:
        emit_more(f"--after {cursor_text(page.next)}", form)
