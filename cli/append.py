"""Append and cancel."""

import codecs
import gzip
import io
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, assert_never

import click

from core_tables.cli import output, wiring
from core_tables.cli.formats import emit_rows
from core_tables.cli.options import json_option, tenant_option, time_option
from core_tables.cli.progress import progress_bar
from core_tables.producer import Ledger, Receipt
from core_tables.schemas.json_form import event_from_line
from core_tables.schemas.outcomes import Accepted, Outcome, Refused, Replayed
from core_tables.schemas.reasons import (
    IDEMPOTENCY_REPLAY,
    ContractError,
    CoreTablesError,
    UnavailableError,
    contract_failure,
)
from core_tables.schemas.vocabulary import MAX_I64
from core_tables.settings.environment import Settings

WINDOW: Final = 2000  # appends in flight before their acknowledgements are collected


class Summary:
    """Counts what became of the lines of a file."""

    def __init__(self) -> None:
        self.appended = 0
        self.unknown = 0
        self.bad_lines: Counter[str] = Counter()
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
            case Refused():
                self.outcomes["refused"] += 1
                self.reasons[_reason(outcome.reason_code, outcome.field)] += 1
            case _:
                assert_never(outcome)

    def as_json(self) -> dict[str, Any]:
        """The summary for a program."""
        return {
            "appended": self.appended,
            "unknown": self.unknown,
            "bad_lines": self.bad_lines.total(),
            **{kind: self.outcomes[kind] for kind in ("accepted", "replayed", "refused")},
            "pending": self.pending,
            "bad_lines_by_reason": dict(self.bad_lines.most_common()),
            "refused_by_reason": dict(self.reasons.most_common()),
        }


def _reason(reason_code: str | None, field: str | None) -> str:
    return f"{reason_code} ({field})" if field else str(reason_code)


@click.command(epilog=output.EXIT_CODES)
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False, exists=True))
@click.option("--wait", is_flag=True, help="Wait for the outcome of every event.")
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    help="With --wait: seconds to wait for the outcomes of each 2000 events. Those not known by then count as pending.",
)
@json_option
def append(file: str, wait: bool, timeout: float, as_json: bool) -> None:
    """Append the events of a file of JSON lines.

    FILE may be compressed with gzip; `-` is standard input. Each line is one event (docs/CONTRACT.md, section 1). A line that
    breaks the contract is reported with its number and skipped; the others are appended. If you run the command again, the
    lines with an idempotency key are replays and change nothing; those without one are appended a second time.
    """
    settings = Settings()
    summary = Summary()
    ledger = wiring.ledger(settings)
    started = time.monotonic()
    try:
        append_lines(ledger, file, summary, timeout if wait else None)
    except KeyboardInterrupt:
        output.err.print(
            "interrupted: the rest of the file was not read; run the command again, lines with an idempotency key are replays"
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
    """Append the lines of a file, and count what becomes of them; with a timeout (s), their outcomes too."""
    window: list[Receipt] = []
    with progress_bar("appending", None) as advance:
        try:
            for number, line in enumerate(read_lines(file), start=1):
                if not line.strip():
                    continue
                try:
                    window.append(ledger.append(event_from_line(line)))
                except ContractError as error:
                    summary.bad_lines[_reason(error.reason_code, error.field)] += 1
                    output.err.print(f"line {number}: {output.describe(error)}", markup=False)
                if len(window) >= WINDOW:
                    full, window = window, []
                    _settle(ledger, full, summary, timeout)
                    advance(summary.appended)
        except KeyboardInterrupt:
            with suppress(CoreTablesError):  # what is not known is counted
                _settle(ledger, window, summary, None)  # only acknowledgements are waited for
            raise
        except Exception:
            _settle(ledger, window, summary, timeout)
            raise
        else:
            _settle(ledger, window, summary, timeout)


def _settle(ledger: Ledger, window: list[Receipt], summary: Summary, timeout: float | None) -> None:
    """Collect the acknowledgements of a window, and its outcomes if they are asked for."""
    written = []
    failure: CoreTablesError | None = None
    for receipt in window:
        try:
            receipt.event_id()
        except CoreTablesError as error:
            summary.unknown += isinstance(error, UnavailableError)
            failure = failure or error
        else:
            summary.appended += 1
            written.append(receipt)
    if timeout is not None:
        for outcome in ledger.outcomes(written, timeout):
            summary.count(outcome)
    if failure is not None:
        raise failure


def read_lines(file: str) -> Iterator[bytes]:
    """The lines of a file, or of standard input (`-`). Raises ContractError if it is damaged.

    gzip is recognized by its first bytes, and a byte order mark at the start is skipped.
    """
    raw: IO[bytes] = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115 - closed with the process
    buffered = io.BufferedReader(raw)  # type: ignore[type-var]
    packed = buffered.peek(2)[:2] == b"\x1f\x8b"
    source: Any = gzip.GzipFile(fileobj=buffered) if packed else buffered
    read = 0
    try:
        for line in source:
            read += 1
            yield line.removeprefix(codecs.BOM_UTF8) if read == 1 else line
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        message = (
            f"{file} is no whole gzip file: {error}; its first {read} lines could be read, get a whole copy of the file"
        )
        raise ContractError(contract_failure(None, message)) from error


def _show(summary: Summary, seconds: float, as_json: bool, *, waited: bool) -> None:
    if as_json:
        output.emit_json(summary.as_json())
        return
    rate = f", {summary.appended / seconds:.0f}/s" if seconds > 0 else ""
    bad_lines = summary.bad_lines.total()
    output.out.print(f"appended {summary.appended} events in {seconds:.1f} s{rate}; {bad_lines} bad lines")
    if summary.unknown:
        output.out.print(f"whether {summary.unknown} more were written is not known")
    if summary.appended == bad_lines == summary.unknown == 0:
        output.out.print("the file holds no events")
    if bad_lines:
        emit_rows("bad lines by reason", ("reason (field)", "lines"), summary.bad_lines.most_common())
    if waited:
        counts = [f"{summary.outcomes[kind]} {kind}" for kind in ("accepted", "replayed", "refused")]
        output.out.print(
            ", ".join(counts) + (f", {summary.pending} pending: is a worker running?" if summary.pending else "")
        )
        if summary.reasons:
            emit_rows("refused by reason", ("reason (field)", "events"), summary.reasons.most_common())


@click.command(epilog=output.EXIT_CODES)
@tenant_option
@click.argument("work_order_id")
@click.option("--reason-code", type=click.IntRange(1, 2**32 - 1), required=True, help="Why, as a code of your own.")
@click.option(
    "--idempotency-key",
    required=True,
    help="Your name for this cancel. The same key again is a replay and changes nothing.",
)
@click.option("--turn-id", type=click.IntRange(1, MAX_I64), help="The turn that cancels; default: the record's.")
@time_option("--now", help="The created_at of the cancel. Default: now.")
@click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait for the outcome.")
@json_option
def cancel(
    tenant: str,
    work_order_id: str,
    reason_code: int,
    idempotency_key: str,
    turn_id: int | None,
    now: int | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Cancel a work order that is in DRAFT, CLARIFY or CONFIRM.

    Exits with 3 if the work order has another status or does not exist.
    """
    ledger = wiring.ledger(Settings())
    try:
        receipt = ledger.cancel(tenant, work_order_id, reason_code, idempotency_key, now, turn_id=turn_id)
        outcome = receipt.outcome(timeout)
        last_event_id = receipt.event_id()
        if isinstance(outcome, Replayed):
            last_event_id = outcome.first_event_id
            _require_cancel(ledger, tenant, work_order_id, last_event_id)
    finally:
        ledger.close()
    if isinstance(outcome, Refused):
        output.fail(CoreTablesError(outcome.sentence, reason_code=outcome.reason_code, field=outcome.field))
    if outcome is None:
        output.err.print(
            "the cancel is in the ledger but not folded yet; check with `core-tables status` that a worker is running"
        )
        sys.exit(output.EXIT_PENDING)
    record = {"work_order_id": work_order_id, "status": "CANCELED", "last_event_id": last_event_id}
    if as_json:
        output.emit_json(record)
    else:
        replayed = " (a replay: nothing changed)" if isinstance(outcome, Replayed) else ""
        output.out.print(f"{work_order_id} is CANCELED by event {last_event_id}{replayed}", markup=False)


def _require_cancel(ledger: Ledger, tenant: str, work_order_id: str, first_id: int) -> None:
    """Raise CoreTablesError if the first event of an idempotency key is not a cancel: then nothing was canceled."""
    (first,) = ledger.reads().ledger(tenant, work_order_id, first_id=first_id, last_id=first_id)
    if first.event.work_order_status != "CANCELED":
        raise CoreTablesError(
            f"nothing was canceled: the key was used by event {first_id}, a {first.event.event_type} "
            f"with status {first.event.work_order_status}; choose another key",
            reason_code=IDEMPOTENCY_REPLAY,
            field="idempotency_key",
        )
