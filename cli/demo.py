"""The demo: sends a small day of events of three tenants through Kafka, Postgres and Redis, on one screen."""

import os
import shutil
import subprocess
import sys
import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import click

from core_tables.cli import output, wiring
from core_tables.cli.append import Summary, append_lines
from core_tables.cli.formats import Format, emit_list, emit_rows
from core_tables.cli.init import initialize
from core_tables.cli.output import json_text
from core_tables.cli.stack_packages import require_stack_packages
from core_tables.cli.trail import newest_audit
from core_tables.producer import Ledger
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.connection import connect
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.verify.repair import rebuild
from core_tables.projection.verify.report import Scope, whole_report
from core_tables.projection.verify.tables import verify
from core_tables.schemas.outcomes import Outcome, Refused, Replayed
from core_tables.schemas.reasons import CoreTablesError, SetupError
from core_tables.schemas.vocabulary import NS_PER_HOUR, STATUSES
from core_tables.settings.environment import Settings

TENANT: Final = "acme-travel"
TENANTS: Final = (TENANT, "globex-grid", "initech-care")
EVENING: Final = 1_768_464_000_000_000_000 + 10 * NS_PER_HOUR  # ns; the day begins on 2026-01-15 at 08:00 UTC
_WAIT_S: Final = 30.0
_SHOWN: Final = 50
_NEWEST: Final = 5


@click.command(epilog=output.EXIT_CODES)
def demo() -> None:
    """Start the local stack and send a day of events through it.

    Run it again, and every event that was accepted is a replay: nothing changes.
    """
    require_stack_packages()
    from core_tables.deploy import stack as local

    settings = Settings()
    started = time.monotonic()
    local.up(settings.stack_dir, output.say)
    settings = Settings()  # again, since the addresses of the stack are known only now
    for line in initialize(settings):
        output.say(line)
    worker = _start_worker(settings)
    try:
        ledger, reads = wiring.ledger(settings), wiring.reads(settings)
        _append_the_day(ledger)
        _show_current(reads)
        _cancel_and_replay(ledger, reads)
        newest = _refusals(ledger, reads)
        _audit_trail(settings, newest)
        _verify_and_rebuild(settings)
        ledger.close()
    finally:
        worker.terminate()
        worker.wait(_WAIT_S)
    _title(f"That was it, in {time.monotonic() - started:.0f} s. The stack is still running. Next:")
    command = _typed()
    for line, what in (
        (f"{command} worker", "folds new events until Ctrl-C"),
        (f"{command} append FILE --wait", "appends your own events"),
        (f"{command} console", "shows it at http://127.0.0.1:8600"),
        (f"{command} doctor", "checks that all is well"),
        (f"{command} --help", "lists all commands"),
        (f"{command} stack down", "stops Kafka, Postgres and Redis"),
    ):
        output.out.print(f"  {line:<42}{what}", markup=False)
    output.out.print()
    output.out.print("And to look at a work order with its steps and its lease, type this:", markup=False)
    output.out.print(f"  {command} get --tenant {TENANT} trip-1002 --whole", markup=False)


def _typed() -> str:
    """This command as it can be typed here."""
    program, *_ = sys.argv
    here = Path(program)
    found = shutil.which("core-tables")
    if found is not None and here.exists() and os.path.samefile(found, here):
        return "core-tables"
    return min(str(here), os.path.relpath(here), key=len) if here.name == "core-tables" else "core-tables"


def _title(text: str) -> None:
    output.out.print()
    output.out.print(f"[bold]{text}[/bold]")


def _start_worker(settings: Settings) -> "subprocess.Popen[bytes]":
    log = settings.stack_dir / "logs" / "worker.log"
    with log.open("ab") as to:
        command = [sys.executable, "-m", "core_tables.cli.main", "worker"]
        return subprocess.Popen(command, stdout=to, stderr=to, stdin=subprocess.DEVNULL, start_new_session=True)


def _append_the_day(ledger: Ledger) -> None:
    _title("1. A day of three tenants is appended; a worker folds it")
    summary = Summary()
    with as_file(files("core_tables.cli") / "demo_data" / "day.jsonl") as day:
        append_lines(ledger, str(day), summary, _WAIT_S)
    if summary.pending:
        raise SetupError(
            "the worker did not fold the day in time; look at its log, logs/worker.log in the folder of the stack",
            "machine",
        )
    counts = ", ".join(f"{summary.outcomes[kind]} {kind}" for kind in ("accepted", "replayed", "refused"))
    output.tell(f"  {summary.appended} events: {counts}")


def _show_current(reads: Reads) -> None:
    _title("2. The current records of each tenant (work_orders_current)")
    records = [
        {
            "tenant_id": tenant,
            "work_order_id": found.work_order_id,
            "status": status,
            "fields": ", ".join(f"{key}: {json_text(value)}" for key, value in found.fields_json.items()),
            "missing": ", ".join(found.missing_fields_json) or None,
        }
        for tenant in TENANTS
        for status in STATUSES
        for found in reads.current_by_status(tenant, status, page_size=_SHOWN)
    ]
    emit_list("work orders", records, Format.TABLE)


def _pending(reads: Reads) -> str:
    answer = reads.pending(PendingQuery(TENANT, "ada", EVENING))
    source = "cache" if answer.from_cache else "Postgres"
    return ", ".join(f"{o.work_order_id} ({o.work_order_status})" for o in answer.offers) + f"   [from {source}]"


def _cancel_and_replay(ledger: Ledger, reads: Reads) -> None:
    _title("3. A pending list before and after a cancel, and the same cancel a second time")
    output.tell(f"  before: {_pending(reads)}")
    first = ledger.cancel(TENANT, "trip-1004", 900, "demo-cancel", EVENING).outcome(_WAIT_S)
    _expect(first)
    output.tell(f"  after:  {_pending(reads)}")
    if isinstance(first, Replayed):
        output.tell("  An earlier run of the demo had canceled trip-1004, so the lists are equal.")
    again = ledger.cancel(TENANT, "trip-1004", 900, "demo-cancel", EVENING).outcome(_WAIT_S)
    if isinstance(again, Replayed):
        output.tell(f"  the same cancel again: {again.first_event_id} was the first, nothing changed")


def _refusals(ledger: Ledger, reads: Reads) -> int:
    """Try to cancel a work order that is done, and show all that was refused; return the event id of the attempt."""
    _title("4. What the contract forbids is refused, with a reason")
    receipt = ledger.cancel(TENANT, "trip-1001", 900, "demo-cancel-done", EVENING)
    receipt.outcome(_WAIT_S)
    # A refused record does not bind its key, so each run of the demo adds the same ones.
    refused = {
        (tenant, record.work_order_id, record.idempotency_key): {
            "tenant_id": tenant,
            "work_order_id": record.work_order_id,
            "why": f"{record.outcome.reason_code}: {record.outcome.sentence}",
        }
        for tenant in TENANTS
        for record in reads.refused(tenant, page_size=_SHOWN)
    }
    emit_list("refused records", list(refused.values()), Format.TABLE)
    return receipt.event_id()


def _expect(outcome: Outcome | None) -> None:
    if outcome is None or isinstance(outcome, Refused):
        raise CoreTablesError(
            f"an append of the demo ended as {outcome}, which was not expected; look at the worker's log"
        )


def _audit_trail(settings: Settings, newest: int) -> None:
    _title("5. The audit trail: one event for every outcome (the newest are shown)")
    deadline = time.monotonic() + _WAIT_S
    trail = newest_audit(settings, TENANT, _NEWEST)
    while all(event.event_id != newest for event in trail) and time.monotonic() < deadline:
        time.sleep(0.2)  # audit events are published a moment after the tables are written
        trail = newest_audit(settings, TENANT, _NEWEST)
    rows = [(e.event_id, e.work_order_id, e.event_type, e.outcome, e.severity) for e in trail]
    emit_rows(settings.audit_topic, ("event_id", "work_order_id", "event_type", "outcome", "severity"), rows)


def _verify_and_rebuild(settings: Settings) -> None:
    _title("6. The tables are what the ledger says")
    cache = wiring.cache_of(settings, wiring.known_topic(settings))
    databases = settings.databases()
    report = whole_report([verify(wiring.operator(database), Scope(), cache=cache) for database in databases])
    output.out.print(f"  verify:  {report.compared} work orders compared, {len(report.differences)} differences")
    workers = [connect(database.worker(), name="core-tables demo") for database in databases]
    repaired = whole_report([rebuild(connection, Scope(), cache=cache) for connection in workers])
    output.out.print(f"  rebuild: {repaired.compared} work orders compared, {repaired.repaired} repaired")
