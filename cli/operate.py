"""The local stack and the worker."""

import gc
import sys

import click

from core_tables.cli import output, worker_wiring
from core_tables.cli.formats import Format, emit_list
from core_tables.cli.log_lines import logger_of
from core_tables.cli.options import format_option
from core_tables.cli.processes import run_workers
from core_tables.cli.running import Opened, RunningWorker
from core_tables.cli.stack_packages import require_stack_packages
from core_tables.cli.starting import started
from core_tables.cli.tracing import tracing
from core_tables.cli.worker_port import WorkerPort
from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.settings.environment import Settings, misspelt_variables


@click.group(epilog=output.EXIT_CODES)
def stack() -> None:
    """Start and stop Kafka, Postgres and Redis on this machine.

    They run as plain processes of yours. Root, Docker and Java are not needed.
    """


@stack.command()
def up() -> None:
    """Start the servers, and wait until they answer.

    Those that are running are left alone. The first start downloads Kafka.
    """
    require_stack_packages()
    from core_tables.deploy import stack as local

    directory = Settings().stack_dir
    local.up(directory, output.say)
    for part in local.status(directory):
        output.out.print(f"{part.name:8} {part.address}", markup=False)
    output.out.print(
        f"every role of Postgres, and Redis, has the password in {directory / 'password'}; the commands and examples find it there"
    )
    output.out.print("next: core-tables init")


@stack.command()
@click.option("--wipe", is_flag=True, help="Remove the data too.")
def down(wipe: bool) -> None:
    """Stop the servers. Their data stays, unless you give --wipe."""
    require_stack_packages()
    from core_tables.deploy import stack as local

    local.down(Settings().stack_dir, output.say, wipe=wipe)
    output.out.print("stopped" + (", and the data was removed" if wipe else ""))


@stack.command("status")
@format_option
def stack_status(form: Format) -> None:
    """Show which servers are running, and where."""
    require_stack_packages()
    from core_tables.deploy import stack as local

    parts = local.status(Settings().stack_dir)
    rows = [{"name": p.name, "running": p.running, "address": p.address, "pid": p.pid} for p in parts]
    shown = [{**row, "state": "running" if row["running"] else "stopped"} for row in rows]
    emit_list("local stack", shown, form, ("name", "state", "address", "pid"))
    if not all(part.running for part in parts):
        sys.exit(output.EXIT_NOT_FOUND)


@click.command(epilog=output.EXIT_CODES)
@click.option(
    "--audit/--no-audit",
    default=True,
    help="With --no-audit, fill the tables only. For workers next to others that write the audit topic.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=WorkerSettings.batch_size,
    show_default=True,
    help="How many records to fold in one transaction at most.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="How many workers to run under this command; up to one per core and lane.",
)
@click.option(
    "--start-timeout",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="Seconds to wait at the start for Kafka, for Postgres, and for `core-tables init`.",
)
def worker(audit: bool, batch: int, processes: int, start_timeout: float) -> None:
    """Fold the ledger until Ctrl-C or SIGTERM.

    Workers share the lanes: start as many as the load needs, up to one per lane.
    """
    settings = Settings()
    log = logger_of(settings, "worker")
    for name, advice in misspelt_variables().items():
        log.warning("unknown_setting", variable=name, advice=advice)
    if processes > 1:
        if "group.instance.id" in settings.kafka:
            raise click.UsageError(
                "--processes cannot be used with a group.instance.id (CORE_TABLES_KAFKA): it names one process"
            )
        arguments = ["--audit" if audit else "--no-audit", "--batch", str(batch), "--start-timeout", str(start_timeout)]
        sys.exit(run_workers(processes, arguments, log, settings.http_address()))
    worker_settings = WorkerSettings(batch_size=batch, health_file=settings.health_file)
    port = WorkerPort(settings, worker_settings)
    traced, end_traces = tracing(settings)

    def opened() -> Opened:
        port.waits_to_start("the worker is starting")
        return started(
            lambda: worker_wiring.worker(settings, worker_settings, audit=audit, log=log, traced=traced),
            start_timeout,
            log,
            port.waits_to_start,
        )

    # A batch leaves no reference cycles. To look for some as often as Python does would be a tenth of the worker's CPU time.
    gc.set_threshold(100_000)
    try:
        RunningWorker(log, port.follow).run(opened, settings.kafka_settings())
    finally:
        end_traces()
