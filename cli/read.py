"""The commands that read one work order: its record, steps and leases."""

import shlex
from typing import Final

import click
from msgspec.structs import asdict

from core_tables.cli import output, wiring
from core_tables.cli.formats import Format, emit_list, emit_more, emit_one
from core_tables.cli.options import at, format_option, limit_option, now_option, tenant_option
from core_tables.projection.postgres.read_types import (
    CurrentRecord,
    GrantedLease,
    StepAttempt,
    WholeWorkOrder,
    record_json,
)
from core_tables.settings.environment import Settings

_NAMED: Final = ("tenant_id", "work_order_id")  # what the caller named


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.argument("work_order_id", required=False)
@click.option("--correlation-id", type=int, help="Find the work order by its correlation id instead.")
@click.option(
    "--at", "at_event", type=click.IntRange(min=1), metavar="EVENT_ID", help="Show the record as it was at this event."
)
@click.option("--whole", is_flag=True, help="Also show its step attempts and its last lease, as of the same event.")
@format_option
def get(
    tenant: str, work_order_id: str | None, correlation_id: int | None, at_event: int | None, whole: bool, form: Format
) -> None:
    """Show the current record of a work order, or an earlier one."""
    if (work_order_id is None) == (correlation_id is None):
        raise click.UsageError("which work order? Give either its WORK_ORDER_ID or --correlation-id")
    if whole and (work_order_id is None or at_event is not None):
        raise click.UsageError("--whole goes with WORK_ORDER_ID alone")
    reads = wiring.reads_of_tables(Settings())
    if work_order_id is None:
        found: CurrentRecord | None = reads.current_by_correlation(tenant, correlation_id or 0)
        work_order_id = found.work_order_id if found is not None else ""
    elif at_event is None:
        found = reads.work_order(tenant, work_order_id) if whole else reads.current(tenant, work_order_id)
    if at_event is not None:
        found = reads.current_at(tenant, work_order_id, at_event)
    if found is None:
        output.nothing(f"work order {work_order_id} of {tenant}")
    record = record_json(found)
    if isinstance(found, WholeWorkOrder):
        lease = None if found.last_lease is None else _lease_json(found.last_lease)
        record |= {"attempts": list(map(_attempt_json, found.attempts)), "last_lease": lease}
    emit_one(f"work order {work_order_id}", record, form)


def _attempt_json(attempt: StepAttempt) -> dict[str, object]:
    return {name: value for name, value in asdict(attempt).items() if name not in _NAMED}


def _lease_json(lease: GrantedLease) -> dict[str, object]:
    return {name: value for name, value in asdict(lease).items() if name not in _NAMED}


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.argument("work_order_id")
@click.option(
    "--after", nargs=2, type=(str, int), metavar="STEP_ID INDEX", default=("", 0), help="Start after this attempt."
)
@limit_option
@format_option
def steps(tenant: str, work_order_id: str, after: tuple[str, int], limit: int, form: Format) -> None:
    """Show the step attempts of a work order."""
    found = wiring.reads_of_tables(Settings()).attempts(tenant, work_order_id, after=after, page_size=limit)
    emit_list("step attempts", list(map(_attempt_json, found)), form)
    if found.next is not None:
        step_id, attempt_index = found.next
        emit_more(f"--after {shlex.quote(str(step_id))} {attempt_index}", form)


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.argument("work_order_id")
@now_option
@click.option("--last", is_flag=True, help="Show the lease that was granted last, whatever became of it.")
@format_option
def lease(tenant: str, work_order_id: str, now: int | None, last: bool, form: Format) -> None:
    """Show the active lease of a work order, or its last one."""
    reads = wiring.reads_of_tables(Settings())
    found = reads.last_lease(tenant, work_order_id) if last else reads.active_lease(tenant, work_order_id, at(now))
    if found is None:
        output.nothing(f"{'a' if last else 'an active'} lease of {work_order_id}")
    emit_one(f"lease of {work_order_id}", _lease_json(found), form)
