"""`verify` and `rebuild`."""

import sys
import time
from functools import partial
from typing import Final, NoReturn

import click

from core_tables.cli import drift, output, wiring
from core_tables.cli.ledger_log import count_records_below, verify_against_topic
from core_tables.cli.options import json_option
from core_tables.cli.progress import progress_bar
from core_tables.kafka.errors import RESTORE_TOPIC
from core_tables.projection.fold.evolve import FOLD_VERSION
from core_tables.projection.postgres.connection import IN_ORDER, Connection, connect
from core_tables.projection.postgres.lanes import only_these_lanes
from core_tables.projection.postgres.migrate import check_release
from core_tables.projection.postgres.tenant_reads import checked_parameters
from core_tables.projection.verify import repair, tables
from core_tables.projection.verify.facts import estimate
from core_tables.projection.verify.report import LEDGER_TABLES, Report, Scope, whole_report
from core_tables.settings.environment import Settings

_DIFFERENCES_SHOWN: Final = 20
# How long a suspended rebuild (SIGSTOP) may lock its lanes; a chunk of large work orders takes some seconds.
REBUILD_TRANSACTION_MS = 60_000
CACHE_TIMEOUT_S: Final = 5.0  # a list that is not dropped stays wrong, so this is worth a wait
_ASK_CACHE: Final = (
    "check CORE_TABLES_REDIS_URL, its password, and that its user may read and scan; then run this command again"
)
_WORK_ORDERS_COMPARED: Final = "work orders compared (the total is estimated)"
_NOT_REBUILT: Final = {*LEDGER_TABLES, "topic"}
_RESTORE_ROWS: Final = (
    "restore Postgres from a copy, or fill an empty database from the topic; if the topic itself lost records, "
    f"{RESTORE_TOPIC}"
)


def _scope(tenant: str | None, work_order: str | None) -> Scope:
    if work_order is not None and tenant is None:
        raise click.UsageError("--work-order needs --tenant")
    if tenant is not None:
        checked_parameters(tenant, work_order_id=work_order)
    return Scope(tenant, work_order)


scope_options = (
    click.option("--tenant", metavar="TENANT_ID", help="Only this tenant."),
    click.option("--work-order", metavar="WORK_ORDER_ID", help="Only this work order of the tenant."),
)


@click.command(epilog=output.EXIT_CODES)
@scope_options[0]
@scope_options[1]
@click.option(
    "--topic",
    "against_topic",
    is_flag=True,
    help="Compare the ledger and outcome tables with the records of the topic instead.",
)
@click.option(
    "--sample", type=click.IntRange(1, 100_000), help="Compare about this many work orders, chosen at random."
)
@click.option("--follow", is_flag=True, help="With --sample: compare another sample again and again until Ctrl-C.")
@click.option("--every", default=10.0, show_default=True, help="With --follow: seconds from one sample to the next.")
@json_option
def verify(
    tenant: str | None,
    work_order: str | None,
    against_topic: bool,
    sample: int | None,
    follow: bool,
    every: float,
    as_json: bool,
) -> None:
    """Compare the tables and the cache with the fold of the ledger.

    Reads one snapshot of the database, and changes nothing. Exits with 11 if something differs or could not be compared. With
    --tenant, the cache is left out.
    """
    settings, scope = Settings(), _scope(tenant, work_order)
    if (follow and sample is None) or (sample is not None and (tenant or against_topic)):
        raise click.UsageError("--follow needs --sample, and --sample goes with nothing else")
    if against_topic and tenant is not None:
        raise click.UsageError("--topic compares the records of all tenants; leave out --tenant")
    if sample is not None:
        if follow:
            with output.until_interrupted():
                drift.follow(settings, sample, every, as_json)
        drift.compare_once(settings, sample, as_json)
    connections = [wiring.operator(database) for database in settings.databases()]
    started = time.monotonic()
    if against_topic:
        lanes = [position for each in connections for position in wiring.positions(settings, each).values()]
        with progress_bar("records compared", sum(position.applied for position in lanes)) as advance:
            report = verify_against_topic(settings, connections, advance)
        _show_report(report, time.monotonic() - started, as_json, repaired=False, compared="records")
        _end_of_verify(report, as_json, _RESTORE_ROWS)
    cache = wiring.cache(settings, connections[0], CACHE_TIMEOUT_S)
    reports = []
    for connection in connections:
        below = partial(count_records_below, settings, connection)
        with progress_bar(_WORK_ORDERS_COMPARED, estimate(connection, scope)) as advance:
            reports.append(tables.verify(connection, scope, cache=cache, progress=advance, records_below=below))
    report = whole_report(reports)
    _show_report(report, time.monotonic() - started, as_json, repaired=False)
    _require_some(report, scope)
    _end_of_verify(report, as_json, f"core-tables verify --topic names the records; then {_RESTORE_ROWS}")


def _end_of_verify(report: Report, as_json: bool, restore: str) -> NoReturn:
    """Print what to do next, and exit. `rebuild` repairs what is derived from the ledger, not ledger and outcomes themselves."""
    differing = {difference.table for difference in report.differences}
    steps = [restore] if differing & _NOT_REBUILT else []
    steps += ["core-tables rebuild"] if differing - _NOT_REBUILT else []
    steps += [_ASK_CACHE] if report.incomplete else []
    if not as_json:
        for step in steps:
            output.out.print(f"next: {step}", markup=False)
    sys.exit(output.EXIT_DIFFERENCES if report.differences or report.incomplete else output.EXIT_OK)


def _require_some(report: Report, scope: Scope) -> None:
    """Exit with EXIT_NOT_FOUND if a tenant or a work order was asked for, and there is none."""
    if report.compared == 0 and scope.tenant_id is not None:
        order = "no work orders" if scope.work_order_id is None else f"no work order {scope.work_order_id}"
        output.err.print(f"nothing found: tenant {scope.tenant_id} has {order}", markup=False)
        sys.exit(output.EXIT_NOT_FOUND)


@click.command(epilog=output.EXIT_CODES)
@scope_options[0]
@scope_options[1]
@json_option
def rebuild(tenant: str | None, work_order: str | None, as_json: bool) -> None:
    """Replace the rows that differ from the fold of the ledger.

    Workers and readers can keep running. You can interrupt it and run it again.
    """
    settings, scope = Settings(), _scope(tenant, work_order)
    connections = [_rebuilding(database) for database in settings.databases()]
    cache = wiring.cache(settings, connections[0], CACHE_TIMEOUT_S)
    started, reports = time.monotonic(), []
    for connection in connections:
        with progress_bar(_WORK_ORDERS_COMPARED, estimate(connection, scope)) as advance:
            reports.append(repair.rebuild(connection, scope, cache=cache, progress=advance, notice=output.say))
    report = whole_report(reports)
    _show_report(report, time.monotonic() - started, as_json, repaired=True)
    _require_some(report, scope)
    if report.incomplete:
        if not as_json:
            output.out.print(f"next: {_ASK_CACHE}", markup=False)
        sys.exit(output.EXIT_DIFFERENCES)


def _rebuilding(database: Settings) -> Connection:
    """A connection that may repair a database. Raises SetupError or UnavailableError."""
    connection = connect(
        database.worker,
        name="core-tables rebuild",
        statement_timeout_ms=600_000,
        transaction_timeout_ms=REBUILD_TRANSACTION_MS,
        plans=IN_ORDER,
    )
    check_release(connection)
    return connection if database.lanes is None else only_these_lanes(connection, database.lanes)


def _show_report(
    report: Report, seconds: float, as_json: bool, *, repaired: bool, compared: str = "work orders"
) -> None:
    if as_json:
        output.emit_json({**report._asdict(), "differences": [d._asdict() for d in report.differences]})
        return
    for difference in report.differences[:_DIFFERENCES_SHOWN]:
        where = "/".join(part for part in (difference.tenant_id, difference.work_order_id) if part)
        output.out.print(f"{difference.table} {where}: {difference.what}", markup=False)
    if len(report.differences) > _DIFFERENCES_SHOWN:
        output.out.print(f"and {len(report.differences) - _DIFFERENCES_SHOWN} more")
    for what in report.incomplete:
        output.out.print(what, markup=False)
    if report.lanes_ahead:
        lanes = ", ".join(str(lane) for lane in report.lanes_ahead)
        output.out.print(f"the cached lists of lanes {lanes} were not compared: workers folded them further meanwhile")
    others = [str(version) for version in report.fold_versions if version != FOLD_VERSION]
    if others:
        change = "what differed was changed" if repaired else "what differs is what `core-tables rebuild` would change"
        output.out.print(f"fold {', '.join(others)} wrote the tables, this release is fold {FOLD_VERSION}: {change}")
    rate = f"{report.events / seconds:.0f} events/s" if seconds > 0 else ""
    what = f"{report.repaired} repaired" if repaired else f"{len(report.differences)} differences"
    output.out.print(
        f"{report.compared} {compared} compared, {report.equal} equal, {what} ({report.events} events, {rate})"
    )
