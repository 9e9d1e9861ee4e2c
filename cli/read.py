"""The commands that read: records, events, outcomes, steps, leases, lists."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import click
from msgspec.structs import asdict

from core_tables.cli import output, wiring
from core_tables.cli.options import at, json_option, now_option, tenant_option
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.rows import work_order_json
from core_tables.schemas.json_form import event_to_json
from core_tables.schemas.outcomes import Accepted, Outcome, Refused, Replayed
from core_tables.schemas.vocabulary import DEFAULT_TOP_N, MAX_I64, MAX_TOP_N, NS_PER_HOUR, PENDING_STATUSES
from core_tables.settings.environment import Settings


def _nothing(what: str) -> None:
    output.err.print(f"{what}: nothing found", markup=False)
    sys.exit(output.EXIT_NOT_FOUND)


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.argument("work_order_id", required=False)
@click.option("--correlation-id", type=int, help="Find the work order by its correlation id instead.")
@click.option(
    "--at", "at_event", type=click.IntRange(min=1), metavar="EVENT_ID", help="Show the record as it was at this event."
)
@json_option
def get(
    tenant: str, work_order_id: str | None, correlation_id: int | None, at_event: int | None, as_json: bool
) -> None:
    """Show the current record of a work order, or an earlier one."""
    if (work_order_id is None) == (correlation_id is None):
        raise click.UsageError("give either WORK_ORDER_ID or --correlation-id")
    reads = wiring.reads(Settings())
    if work_order_id is None:
        found = reads.current_by_correlation(tenant, correlation_id or 0)
        work_order_id = found.identity.work_order_id if found is not None else ""
    else:
        found = None if at_event is not None else reads.current(tenant, work_order_id)
    if at_event is not None:
        found = reads.current_at(tenant, work_order_id, at_event)
    if found is None:
        _nothing(f"work order {work_order_id} of {tenant}")
    elif as_json:
        output.emit_json(work_order_json(found))
    else:
        output.emit_record(f"work order {work_order_id}", work_order_json(found))


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.argument("work_order_id", required=False)
@click.option("--from", "first_id", type=click.IntRange(min=1), default=1, help="Start at this event id.")
@click.option("--to", "last_id", type=click.IntRange(min=1), default=MAX_I64, help="End at this event id.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many events at most.")
@json_option
def ledger(tenant: str, work_order_id: str | None, first_id: int, last_id: int, limit: int, as_json: bool) -> None:
    """Show the events of a tenant or of one work order, oldest first."""
    reads = wiring.reads(Settings())
    entries = reads.ledger(tenant, work_order_id, first_id=first_id, last_id=last_id, page_size=limit)
    if as_json:
        for entry in entries:
            output.emit_json(
                {
                    "work_order_event_id": entry.work_order_event_id,
                    "status_before": entry.status_before,
                    **event_to_json(entry.event),
                }
            )
        return
    columns = ("work_order_event_id", "work_order_id", "event_type", "work_order_status", "created_at")
    rows = [(entry.work_order_event_id, *(getattr(entry.event, name) for name in columns[1:])) for entry in entries]
    output.emit_rows("ledger", columns, rows)
    if len(entries) == limit:
        output.out.print(f"there may be more: --from {entries[-1].work_order_event_id + 1}")


def outcome_json(event_id: int, found: Outcome) -> dict[str, Any]:
    """An outcome as JSON."""
    match found:
        case Accepted():
            return {"event_id": event_id, "outcome": "ACCEPTED", "work_order_event_id": event_id}
        case Replayed():
            return {
                "event_id": event_id,
                "outcome": "REPLAYED",
                "work_order_event_id": found.first_event_id,
                "request_differs": found.request_differs,
            }
        case Refused():
            return {"event_id": event_id, "outcome": "REFUSED", **asdict(found)}
        case _:
            assert_never(found)


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.argument("event_id", type=click.IntRange(min=1))
@json_option
def outcome(tenant: str, event_id: int, as_json: bool) -> None:
    """Show the outcome of an append.

    EVENT_ID is the id that the receipt of the append gave.
    """
    found = wiring.reads(Settings()).outcome(tenant, event_id)
    if found is None:
        _nothing(f"an outcome of {event_id} (not folded yet, or another tenant's)")
        return
    record = outcome_json(event_id, found)
    if as_json:
        output.emit_json(record)
    else:
        output.emit_record(f"outcome of {event_id}", record)


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.argument("work_order_id")
@json_option
def steps(tenant: str, work_order_id: str, as_json: bool) -> None:
    """Show the step attempts of a work order."""
    found = wiring.reads(Settings()).attempts(tenant, work_order_id)
    records = [
        {"step_id": step_id, "attempt_index": attempt_index, **asdict(attempt)}
        for (step_id, attempt_index), attempt in found.items()
    ]
    _emit_list("step attempts", records, as_json)


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.argument("work_order_id")
@now_option
@json_option
def lease(tenant: str, work_order_id: str, now: int | None, as_json: bool) -> None:
    """Show the active lease of a work order."""
    found = wiring.reads(Settings()).active_lease(tenant, work_order_id, at(now))
    if found is None:
        _nothing(f"an active lease of {work_order_id}")
    elif as_json:
        output.emit_json(asdict(found))
    else:
        output.emit_record(f"lease of {work_order_id}", asdict(found))


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


def _emit_list(title: str, records: Sequence[Mapping[str, object]], as_json: bool) -> None:
    if not as_json:
        output.emit_records(title, records)
        return
    for record in records:
        output.emit_json(record)
