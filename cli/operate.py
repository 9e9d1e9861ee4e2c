"""Running it: the local stack, init, the worker, status, verify and rebuild."""

import contextlib
import gc
import signal
import sys
import time
from contextlib import closing
from functools import partial
from typing import Any, NoReturn

import click
from confluent_kafka import KafkaException

from core_tables.cli import drift, output, wiring
from core_tables.cli.options import json_option
from core_tables.cli.processes import run_workers
from core_tables.cli.settings import Settings
from core_tables.consumer.settings import WorkerSettings
from core_tables.kafka.errors import RESTORE_TOPIC
from core_tables.projection.fold.evolve import FOLD_VERSION
from core_tables.projection.postgres.connection import connect
from core_tables.projection.postgres.reads import checked_parameters
from core_tables.projection.postgres.store import LanePosition
from core_tables.projection.verify import repair, tables
from core_tables.projection.verify.facts import estimate
from core_tables.projection.verify.report import LEDGER_TABLES, Report, Scope
from core_tables.schemas.topic import LedgerTopic

DIFFERENCES_SHOWN = 20
# A chunk may be of large work orders; what this bounds is how long a rebuild that was stopped (SIGSTOP) holds its lanes.
REBUILD_TRANSACTION_MS = 60_000
NOT_REBUILT = {*LEDGER_TABLES, "topic"}
RESTORE_ROWS = (
    "restore Postgres from a copy, or fill an empty database from the topic; if the topic itself lost records, "
    f"{RESTORE_TOPIC}"
)


@click.group(epilog=output.EXIT_CODES)
def stack() -> None:
    """Kafka, Postgres and Redis as processes of this machine: no root, no Docker, no Java needed."""


def _say(line: str) -> None:
    output.err.print(line, markup=False)


@stack.command()
def up() -> None:
    """Start what is not running, and wait until it answers. The first time downloads Kafka."""
    from core_tables.deploy import stack as local

    where = local.up(Settings().stack_dir, _say)
    output.out.print(
        f"kafka    {where.bootstrap_servers}\npostgres {where.postgres_dsn}\nredis    {where.redis_url}", markup=False
    )
    output.out.print("next: core-tables init")


@stack.command()
@click.option("--wipe", is_flag=True, help="Remove the data as well.")
def down(wipe: bool) -> None:
    """Stop the stack; its data stays unless --wipe is given."""
    from core_tables.deploy import stack as local

    local.down(Settings().stack_dir, _say, wipe=wipe)
    output.out.print("nothing runs" + (", and the data is gone" if wipe else ""))


@stack.command("status")
@json_option
def stack_status(as_json: bool) -> None:
    """What of the stack runs, and where."""
    from core_tables.deploy import stack as local

    parts = local.status(Settings().stack_dir)
    if as_json:
        output.emit_json([{"name": p.name, "running": p.running, "address": p.address, "pid": p.pid} for p in parts])
    else:
        rows = [(p.name, "running" if p.running else "stopped", p.address, p.pid) for p in parts]
        output.emit_rows("local stack", ("part", "state", "address", "pid"), rows)
    if not all(part.running for part in parts):
        sys.exit(output.EXIT_NOT_FOUND)


@click.command(epilog=output.EXIT_CODES)
@click.option(
    "--audit/--no-audit", default=True, help="--no-audit: fill tables only, where another fleet writes the audit topic."
)
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=WorkerSettings.batch_size,
    show_default=True,
    help="Records folded in one transaction.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Workers under this command, which share its lanes; up to one per core and lane.",
)
def worker(audit: bool, batch: int, processes: int) -> None:
    """Fold the ledger until stopped (Ctrl-C or SIGTERM). Start as many as there is load for, up to one per lane."""
    log = wiring.logger()
    if processes > 1:
        arguments = ["--audit" if audit else "--no-audit", "--batch", str(batch)]
        sys.exit(run_workers(processes, arguments, log))
    settings = Settings()
    worker_settings = WorkerSettings(batch_size=batch, health_file=settings.health_file)
    built, audit_thread = wiring.worker(settings, worker_settings, audit=audit, log=log)

    def stop(_signal: int, _frame: Any) -> None:
        built.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.info("worker_started", topic=built.topic.topic, audit=audit)
    if audit_thread is not None:
        audit_thread.start()
    finished = False
    # Nothing of a batch refers to itself, but the collector would look through all states in memory for it: a third of
    # the worker's CPU. It looks at what is new once a minute instead (consumer/idle.py).
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        built.run()
        finished = True
    finally:
        if audit_thread is not None:
            audit_thread.close(flush=finished)
        with contextlib.suppress(KafkaException):
            built.close()
        log.info("worker_stopped", folded=built.folded_records)


@click.command(epilog=output.EXIT_CODES)
@json_option
def status(as_json: bool) -> None:
    """Per lane: the log's end, what is applied and audited, and the lag in records and seconds."""
    settings = Settings()
    connection = wiring.operator(settings)
    topic = wiring.registered_topic(settings, connection)
    rows = _lane_rows(settings, topic, wiring.positions(settings, connection))
    if as_json:
        for row in rows:
            output.emit_json(row)
        return
    output.emit_rows(f"lanes of {topic.topic}", list(rows[0]), [list(row.values()) for row in rows])
    lag = sum(row["lag"] for row in rows)
    output.out.print("everything is folded" if lag == 0 else f"{lag} records wait; does a worker run?")


def _lane_rows(settings: Settings, topic: LedgerTopic, positions: dict[int, LanePosition]) -> list[dict[str, Any]]:
    rows = []
    with closing(wiring.topic_reader(settings, topic.topic)) as reader:
        for lane, position in sorted(positions.items()):
            partition = lane - topic.first_lane
            end = reader.bounds(partition)[1]
            lag, waits = max(0, end - position.applied), 0.0
            if lag:
                first = reader.first(partition, position.applied)
                if first is None:
                    lag = 0  # the log ends in a gap: nothing of it is left to be folded
                else:
                    waits = max(0.0, time.time() - first.timestamp()[1] / 1000)
            rows.append(
                {
                    "lane": lane,
                    "log_end": end,
                    "applied": position.applied,
                    "audited": position.audited,
                    "lag": lag,
                    "lag_seconds": round(waits, 1),
                }
            )
    return rows


def _scope(tenant: str | None, work_order: str | None) -> Scope:
    if work_order is not None and tenant is None:
        raise click.UsageError("--work-order needs --tenant")
    if tenant is not None:
        checked_parameters(tenant, work_order_id=work_order)
    return Scope(tenant, work_order)


scope_options = (
    click.option("--tenant", metavar="TENANT_ID", help="One tenant only."),
    click.option("--work-order", metavar="WORK_ORDER_ID", help="One work order of the tenant only."),
)


@click.command(epilog=output.EXIT_CODES)
@scope_options[0]
@scope_options[1]
@click.option(
    "--topic", "against_topic", is_flag=True, help="Fold the topic itself, and compare ledger and outcomes with it."
)
@click.option("--sample", type=click.IntRange(1, 100_000), help="Compare about so many work orders, chosen by chance.")
@click.option("--follow", is_flag=True, help="With --sample: go on, round after round, until Ctrl-C.")
@click.option("--every", default=10.0, show_default=True, help="With --follow: seconds between two rounds.")
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
    """Compare the tables and the cache with the fold of the ledger, in one snapshot; changes nothing."""
    settings, scope = Settings(), _scope(tenant, work_order)
    if (follow and sample is None) or (sample is not None and (tenant or against_topic)):
        raise click.UsageError("--follow needs --sample, and --sample goes with nothing else")
    if sample is not None:
        if follow:
            drift.audit(settings, sample, every, as_json)
        drift.audit_once(settings, sample, as_json)
    connection = wiring.operator(settings)
    started = time.monotonic()
    if against_topic:
        total = sum(position.applied for position in wiring.positions(settings, connection).values())
        with output.progress_bar("records compared", total) as advance:
            report = wiring.verify_topic(settings, connection, advance)
        _show_report(report, time.monotonic() - started, as_json, repaired=False, compared="records")
        _end_of_verify(report, as_json, RESTORE_ROWS)
    below = partial(wiring.count_records_below, settings, connection)
    cache = wiring.cache(settings, connection)
    with output.progress_bar("work orders compared (the total is estimated)", estimate(connection, scope)) as advance:
        report = tables.verify(connection, scope, cache=cache, progress=advance, records_below=below)
    _show_report(report, time.monotonic() - started, as_json, repaired=False)
    _end_of_verify(report, as_json, f"core-tables verify --topic names the records; then {RESTORE_ROWS}")


def _end_of_verify(report: Report, as_json: bool, restore: str) -> NoReturn:
    """What to do next: rebuild mends what is made from the ledger, but not the ledger and the outcomes themselves."""
    differing = {difference.table for difference in report.differences}
    steps = [restore] if differing & NOT_REBUILT else []
    steps += ["core-tables rebuild"] if differing - NOT_REBUILT else []
    if not as_json:
        for step in steps:
            output.out.print(f"next: {step}", markup=False)
    sys.exit(output.EXIT_DIFFERENCES if report.differences else output.EXIT_OK)


@click.command(epilog=output.EXIT_CODES)
@scope_options[0]
@scope_options[1]
@json_option
def rebuild(tenant: str | None, work_order: str | None, as_json: bool) -> None:
    """Replace the rows that differ from the ledger, while workers fold and readers read; may be interrupted and run again."""
    settings, scope = Settings(), _scope(tenant, work_order)
    connection = connect(
        settings.worker(),
        name="core-tables rebuild",
        statement_timeout_ms=600_000,
        transaction_timeout_ms=REBUILD_TRANSACTION_MS,
    )
    cache = wiring.cache(settings, connection)
    started = time.monotonic()
    with output.progress_bar("work orders compared (the total is estimated)", estimate(connection, scope)) as advance:
        report = repair.rebuild(connection, scope, cache=cache, progress=advance, notice=_say)
    _show_report(report, time.monotonic() - started, as_json, repaired=True)
    if cache is not None and cache.failed is not None:
        _say(
            f"the cache did not answer ({cache.failed}): run core-tables rebuild again when it does, if its lists differ"
        )


def _show_report(
    report: Report, seconds: float, as_json: bool, *, repaired: bool, compared: str = "work orders"
) -> None:
    if as_json:
        output.emit_json({**report._asdict(), "differences": [d._asdict() for d in report.differences]})
        return
    for difference in report.differences[:DIFFERENCES_SHOWN]:
        where = "/".join(part for part in difference[:2] if part)
        output.out.print(f"{difference.table} {where}: {difference.what}", markup=False)
    if len(report.differences) > DIFFERENCES_SHOWN:
        output.out.print(f"and {len(report.differences) - DIFFERENCES_SHOWN} more")
    others = [str(version) for version in report.fold_versions if version != FOLD_VERSION]
    if others:
        told = "what differed was changed" if repaired else "what differs is what `core-tables rebuild` would change"
        output.out.print(f"fold {', '.join(others)} wrote the tables, this release is fold {FOLD_VERSION}: {told}")
    rate = f"{report.events / seconds:.0f} events/s" if seconds > 0 else ""
    what = f"{report.repaired} repaired" if repaired else f"{len(report.differences)} differences"
    output.out.print(
        f"{report.compared} {compared} compared, {report.equal} equal, {what} ({report.events} events, {rate})"
    )
