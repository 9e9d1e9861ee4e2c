"""Append and cancel."""

import gzip
import io
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import click

from core_tables.cli import output, wiring
from core_tables.cli.options import json_option, now_option, tenant_option
from core_tables.cli.settings import Settings
from core_tables.producer import Ledger, Receipt
from core_tables.schemas.json_form import event_from_line
from core_tables.schemas.outcomes import Accepted, Outcome, Refused, Replayed
from core_tables.schemas.reasons import ContractError, CoreTablesError

WINDOW: Final = 2000  # appends in flight before their acknowledgements are collected
BAD_LINES_SHOWN: Final = 20


class Summary:
    """What became of the lines of a file."""

    def __init__(self) -> None:
        self.appended = 0
        self.bad_lines = 0
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.pending = 0

    def count(self, outcome: Outcome | None) -> None:
        """Count what became of one append."""
        match outcome:
            case None:
                self.pending += 1
            case Accepted():
                self.outcomes["accepted"] += 1
            case Replayed():
                self.outcomes["replayed"] += 1
            case Refused(reason_code, field, _):
                self.outcomes["refused"] += 1
                self.reasons[f"{reason_code} ({field})" if field else reason_code] += 1

    def as_json(self) -> dict[str, Any]:
        """The summary for a program."""
        return {
            "appended": self.appended,
            "bad_lines": self.bad_lines,
            **{kind: self.outcomes[kind] for kind in ("accepted", "replayed", "refused")},
            "pending": self.pending,
            "refused_by_reason": dict(self.reasons.most_common()),
        }


@click.command(epilog=output.EXIT_CODES)
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False, exists=True))
@click.option("--wait", is_flag=True, help="Follow every event to its outcome.")
@click.option(
    "--timeout", default=60.0, show_default=True, help="Seconds without any progress before outcomes count as pending."
)
@json_option
def append(file: str, wait: bool, timeout: float, as_json: bool) -> None:
    """Append the events of FILE (`-`: standard input), one JSON object a line, gzip or not.

    Each line is a WorkOrderLedgerEventInput. A line that breaks the contract is reported with its number and left out;
    the others go on. A line without an idempotency key is appended again when the command is run again.
    """
    settings = Settings()
    summary = Summary()
    ledger = wiring.ledger(settings)
    started = time.monotonic()
    try:
        append_lines(ledger, file, summary, timeout if wait else None)
    except KeyboardInterrupt:
        output.err.print(
            "interrupted: lines after the last one counted were not read; run it again, replays are no-ops"
        )
        raise
    finally:
        ledger.close()
        _show(summary, time.monotonic() - started, as_json, waited=wait)
    if summary.pending:
        sys.exit(output.EXIT_PENDING)
    if summary.bad_lines or summary.outcomes["refused"]:
        sys.exit(output.EXIT_REFUSED)


def append_lines(ledger: Ledger, file: str, summary: Summary, timeout: float | None) -> None:
    """Append the lines of a file, and count what becomes of them; with a time-out (s), their outcomes too."""
    window: list[Receipt] = []
    with output.progress_bar("appending", None) as advance:
        for number, line in enumerate(_lines(file), start=1):
            if not line.strip():
                continue
            try:
                window.append(ledger.append(event_from_line(line)))
            except ContractError as error:
                summary.bad_lines += 1
                if summary.bad_lines <= BAD_LINES_SHOWN:
                    output.err.print(f"line {number}: {output.describe(error)}", markup=False)
            if len(window) >= WINDOW:
                _settle(ledger, window, summary, timeout)
                window = []
                advance(summary.appended)
        _settle(ledger, window, summary, timeout)
        if summary.bad_lines > BAD_LINES_SHOWN:
            output.err.print(f"and {summary.bad_lines - BAD_LINES_SHOWN} more bad lines")


def _settle(ledger: Ledger, window: list[Receipt], summary: Summary, timeout: float | None) -> None:
    """Collect the acknowledgements of a window, and its outcomes if they are asked for."""
    by_tenant: dict[str, list[int]] = {}
    for receipt in window:
        by_tenant.setdefault(receipt.event.tenant_id, []).append(receipt.event_id())
        summary.appended += 1
    if timeout is None:
        return
    for tenant_id, event_ids in by_tenant.items():
        found = ledger.outcomes_of(tenant_id, event_ids, time.monotonic() + timeout)
        for event_id in event_ids:
            summary.count(found.get(event_id))


def _lines(file: str) -> Iterator[bytes]:
    """The lines of a file or of standard input; gzip is told by its first bytes."""
    raw: IO[bytes] = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115 - closed with the process
    buffered = io.BufferedReader(raw)  # type: ignore[type-var]
    packed = buffered.peek(2)[:2] == b"\x1f\x8b"
    source: Any = gzip.GzipFile(fileobj=buffered) if packed else buffered
    try:
        yield from source
    except (gzip.BadGzipFile, EOFError) as error:
        raise CoreTablesError(f"{file} is no whole gzip file: {error}; lines before that were read") from error


def _show(summary: Summary, seconds: float, as_json: bool, *, waited: bool) -> None:
    if as_json:
        output.emit_json(summary.as_json())
        return
    rate = f", {summary.appended / seconds:.0f}/s" if seconds > 0 else ""
    output.out.print(f"appended {summary.appended} events in {seconds:.1f} s{rate}; {summary.bad_lines} bad lines")
    if summary.appended == summary.bad_lines == 0:
        output.out.print("the file holds no events")
    if waited:
        counts = [f"{summary.outcomes[kind]} {kind}" for kind in ("accepted", "replayed", "refused")]
        output.out.print(
            ", ".join(counts) + (f", {summary.pending} pending: does a worker run?" if summary.pending else "")
        )
        if summary.reasons:
            output.emit_rows("refused by reason", ("reason (field)", "events"), summary.reasons.most_common())


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.argument("work_order_id")
@click.option("--reason-code", type=click.IntRange(1, 2**32 - 1), required=True, help="The caller's own code for why.")
@click.option("--idempotency-key", required=True, help="Names this cancel; the same key again is a replay.")
@now_option
@click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait for the outcome.")
@json_option
def cancel(
    tenant: str,
    work_order_id: str,
    reason_code: int,
    idempotency_key: str,
    now: int | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Cancel a work order that is in DRAFT, CLARIFY or CONFIRM."""
    ledger = wiring.ledger(Settings())
    receipt = ledger.cancel(tenant, work_order_id, reason_code, idempotency_key, now)
    outcome = receipt.outcome(timeout)
    ledger.close()
    match outcome:
        case Accepted():
            last_event_id = receipt.event_id()
        case Replayed(first_event_id, _):
            last_event_id = first_event_id
        case Refused(code, field, sentence):
            output.fail(CoreTablesError(sentence, reason_code=code, field=field))
        case None:
            output.err.print(
                "the cancel is in the ledger but not folded yet; does a worker run? see `core-tables status`"
            )
            sys.exit(output.EXIT_PENDING)
    record = {"work_order_id": work_order_id, "status": "CANCELED", "last_event_id": last_event_id}
    if as_json:
        output.emit_json(record)
    else:
        replayed = " (a replay: nothing changed)" if isinstance(outcome, Replayed) else ""
        output.out.print(f"{work_order_id} is CANCELED by event {last_event_id}{replayed}", markup=False)
