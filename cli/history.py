"""The commands that read records: events, outcomes, keys, correlations."""

from collections.abc import Sequence
from typing import Any, assert_never

import click
from msgspec.structs import asdict

from core_tables.cli import output, wiring
from core_tables.cli.options import after_option, cursor_text, json_option, limit_option, tenant_option
from core_tables.projection.postgres.ledger_reads import DecidedRecord, LedgerEntry
from core_tables.projection.postgres.tenant_reads import Cursor
from core_tables.schemas.json_form import event_to_json
from core_tables.schemas.outcomes import Accepted, Outcome, Refused, Replayed
from core_tables.schemas.vocabulary import MAX_I64
from core_tables.settings.environment import Settings


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
    _emit_events(entries, as_json)
    if len(entries) == limit:
        output.emit_more(f"--from {entries[-1].work_order_event_id + 1}", as_json)


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.option("--from", "created_from", type=click.IntRange(min=0), default=0, metavar="NS", help="Start at this time.")
@click.option("--to", "created_to", type=click.IntRange(min=0), default=MAX_I64, metavar="NS", help="End at this time.")
@after_option
@limit_option
@json_option
def created(tenant: str, created_from: int, created_to: int, after: Cursor | None, limit: int, as_json: bool) -> None:
    """Show the events that were created in a range of time.

    Times are created_at, in nanoseconds since 1970, both included. Oldest first.
    """
    reads = wiring.reads(Settings())
    page = reads.ledger_by_creation(tenant, created_from, created_to, after=after, page_size=limit)
    _emit_events(page, as_json)
    if page.next is not None:
        output.emit_more(f"--after {cursor_text(page.next)}", as_json)


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.argument("work_order_id")
@click.argument("idempotency_key")
@json_option
def key(tenant: str, work_order_id: str, idempotency_key: str, as_json: bool) -> None:
    """Show the event that an idempotency key is bound to."""
    found = wiring.reads(Settings()).bound_event(tenant, work_order_id, idempotency_key)
    if found is None:
        output.nothing(f"an event of {work_order_id} with the key {idempotency_key}")
    if as_json:
        output.emit_json(_event_json(found))
    else:
        output.emit_record(f"event {found.work_order_event_id}", _event_json(found))


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.argument("correlation_id", type=int)
@click.option("--from", "first_id", type=click.IntRange(min=1), default=1, help="Start at this event id.")
@limit_option
@json_option
def correlation(tenant: str, correlation_id: int, first_id: int, limit: int, as_json: bool) -> None:
    """Show all records of a correlation id, oldest first.

    Those that were refused or replayed too.
    """
    found = wiring.reads(Settings()).records_of_correlation(tenant, correlation_id, first_id=first_id, page_size=limit)
    output.emit_list("records", [_record_json(record) for record in found], as_json)
    if len(found) == limit:
        *_, last = found
        output.emit_more(f"--from {last.event_id + 1}", as_json)


def _record_json(record: DecidedRecord) -> dict[str, Any]:
    named = {name: value for name, value in record._asdict().items() if name not in ("outcome", "event")}
    return {**named, **outcome_json(record.event_id, record.outcome)}


def _event_json(entry: LedgerEntry) -> dict[str, Any]:
    return {
        "work_order_event_id": entry.work_order_event_id,
        "status_before": entry.status_before,
        **event_to_json(entry.event),
    }


def _emit_events(entries: Sequence[LedgerEntry], as_json: bool) -> None:
    if as_json:
        for entry in entries:
            output.emit_json(_event_json(entry))
        return
    columns = ("work_order_event_id", "work_order_id", "event_type", "work_order_status", "created_at")
    rows = [(entry.work_order_event_id, *(getattr(entry.event, name) for name in columns[1:])) for entry in entries]
    output.emit_rows("ledger", columns, rows)


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
        output.nothing(f"an outcome of {event_id} (not folded yet, or another tenant's)")
    record = outcome_json(event_id, found)
    if as_json:
        output.emit_json(record)
    else:
        output.emit_record(f"outcome of {event_id}", record)
