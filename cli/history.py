"""The commands that read records: events, outcomes, keys, correlations."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, assert_never

import click
from msgspec.structs import asdict

from core_tables.cli import output, wiring
from core_tables.cli.formats import Format, emit_list, emit_more, emit_one
from core_tables.cli.options import (
    after_option,
    cursor_text,
    format_option,
    limit_option,
    since_option,
    tenant_option,
    until_option,
)
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
@since_option
@until_option
@after_option
@limit_option
@format_option
def ledger(
    tenant: str,
    work_order_id: str | None,
    first_id: int,
    last_id: int,
    since: int | None,
    until: int | None,
    after: Cursor | None,
    limit: int,
    form: Format,
) -> None:
    """Show the events of a tenant or of one work order, oldest first.

    With --since or --until, those whose created_at is in that range, both ends included: of a tenant in the order of
    created_at, of a work order in the order of event ids.
    """
    reads = wiring.reads_of_tables(Settings())
    by_time = since is not None or until is not None
    if by_time and work_order_id is None:
        if (first_id, last_id) != (1, MAX_I64):
            raise click.UsageError("--from and --to are event ids: give them, or --since and --until")
        page = reads.ledger_by_creation(
            tenant, since or 0, MAX_I64 if until is None else until, after=after, page_size=limit
        )
        _emit_events(page, form)
        if page.next is not None:
            emit_more(f"--after {cursor_text(page.next)}", form)
        return
    if after is not None:
        raise click.UsageError("--after goes with --since or --until; the page before this one ended with --from")
    times = range(since or 0, (MAX_I64 if until is None else until) + 1)
    first = reads.ledger(tenant, work_order_id, first_id=first_id, last_id=last_id, page_size=limit)
    # No index has the times of one work order, so its history is read page by page.
    created = (entry for entry in first.all() if times.start <= entry.event.created_at < times.stop)
    entries = list(islice(created, limit + 1))
    _emit_events(entries[:limit], form)
    for entry in entries[limit:]:
        emit_more(f"--from {entry.work_order_event_id}", form)


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.argument("work_order_id")
@click.argument("idempotency_key")
@format_option
def key(tenant: str, work_order_id: str, idempotency_key: str, form: Format) -> None:
    """Show the event that an idempotency key is bound to."""
    found = wiring.reads_of_tables(Settings()).bound_event(tenant, work_order_id, idempotency_key)
    if found is None:
        output.nothing(f"an event of {work_order_id} with the key {idempotency_key}")
    emit_one(f"event {found.work_order_event_id}", _event_json(found), form)


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.argument("correlation_id", type=int)
@click.option("--from", "first_id", type=click.IntRange(min=1), default=1, help="Start at this event id.")
@limit_option
@format_option
def correlation(tenant: str, correlation_id: int, first_id: int, limit: int, form: Format) -> None:
    """Show all records of a correlation id, oldest first.

    Those that were refused or replayed too.
    """
    found = wiring.reads_of_tables(Settings()).records_of_correlation(
        tenant, correlation_id, first_id=first_id, page_size=limit
    )
    columns = ("event_id", "created_at", "event_type", "outcome", "reason_code", "field", "sentence")
    emit_list(f"records of {correlation_id}", [_record_json(record) for record in found], form, columns)
    if found.next is not None:
        (last_id,) = found.next
        emit_more(f"--from {int(last_id) + 1}", form)


def _record_json(record: DecidedRecord) -> dict[str, Any]:
    named = {name: value for name, value in record._asdict().items() if name not in ("outcome", "event")}
    return {**named, **outcome_json(record.event_id, record.outcome)}


def _event_json(entry: LedgerEntry) -> dict[str, Any]:
    return {
        "work_order_event_id": entry.work_order_event_id,
        "status_before": entry.status_before,
        **event_to_json(entry.event),
    }


def _emit_events(entries: Sequence[LedgerEntry], form: Format) -> None:
    columns = ("work_order_event_id", "created_at", "work_order_id", "event_type", "work_order_status")
    emit_list("ledger", list(map(_event_json, entries)), form, columns)


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
@format_option
def outcome(tenant: str, event_id: int, form: Format) -> None:
    """Show the outcome of an append.

    EVENT_ID is the id that the receipt of the append gave.
    """
    found = wiring.reads_of_tables(Settings()).outcome(tenant, event_id)
    if found is None:
        output.nothing(f"an outcome of {event_id} (not folded yet, or another tenant's)")
    emit_one(f"outcome of {event_id}", outcome_json(event_id, found), form)
