"""What the command prints: tables, JSON, errors in one line; and its exit codes.

What a person reads may hold texts of records, so control characters are escaped there: they could drive the terminal. JSON
is left as it is.
"""

import contextlib
import io
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

import orjson
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from core_tables.schemas.reasons import (
    ContractError,
    CoreTablesError,
    FatalClientError,
    LaneStoppedError,
    SetupError,
    UnavailableError,
)

EXIT_OK: Final = 0
EXIT_DEFECT: Final = 1
EXIT_USAGE: Final = 2
EXIT_REFUSED: Final = 3
EXIT_NOT_FOUND: Final = 4
EXIT_KAFKA: Final = 5
EXIT_POSTGRES: Final = 6
EXIT_TOPIC: Final = 7
EXIT_DATABASE: Final = 8
EXIT_PERMISSION: Final = 9
EXIT_LANE_STOPPED: Final = 10
EXIT_DIFFERENCES: Final = 11
EXIT_PENDING: Final = 12
EXIT_MACHINE: Final = 13
EXIT_CLIENT: Final = 14
EXIT_INTERRUPTED: Final = 130
EXIT_NO_READER: Final = 141  # as a shell reports a process that SIGPIPE ended
EXIT_FORCED: Final = 143  # as if SIGTERM had ended it

EXIT_CODES: Final = """\b
Exit codes:
  0  done                       7  a topic is missing or has wrong settings
  2  wrong arguments            8  the database is missing or not migrated
  3  input or append refused    9  permission missing
  4  nothing found             10  a lane stopped and needs a person
  5  Kafka does not answer     11  verify found differences
  6  Postgres does not answer  12  an outcome is still pending
 13  something is missing on this machine
 14  the Kafka client cannot be used any more: start again
130  interrupted               143  asked to end, and ended by force"""

_SUBJECTS: Final = {
    "topic": EXIT_TOPIC,
    "database": EXIT_DATABASE,
    "permission": EXIT_PERMISSION,
    "machine": EXIT_MACHINE,
}

LINE_EVERY_S: Final = 10.0
_NOT_A_TERMINAL: Final = 160  # columns of a table that goes to a file or a pipe

# Control characters (line breaks and C1 too), what changes the direction of a text, and what is no character at all.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text on one line, with characters that a terminal would act on as escapes such as `\\x1b`."""
    return _UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


class _Console(Console):
    """A console that prints one line per text, and whose reader may end before us."""

    def print(self, *objects: Any, **options: Any) -> None:
        texts = (printable(each) if isinstance(each, str) else each for each in objects)
        try:
            super().print(*texts, **options)
        except OSError as error:
            if self.stderr:
                return  # there is no place left to report it
            if isinstance(error, BrokenPipeError):
                raise
            raise unwritable(error) from error

    def on_broken_pipe(self) -> None:
        """Let the command end as other tools do (cli/main.py); rich would exit with 1."""
        raise BrokenPipeError


out: Final = _Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _NOT_A_TERMINAL)
err: Final = _Console(stderr=True, highlight=False, soft_wrap=True)


def prepare() -> None:
    """Let texts be printed in any encoding; a character that it does not have is printed as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush() -> None:
    """Write what is still buffered. Raises BrokenPipeError, and SetupError if standard output cannot be written."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(error) from error


def unwritable(error: OSError) -> SetupError:
    """The error of a standard output that cannot be written; what is buffered is dropped."""
    abandon()
    return SetupError(
        f"standard output could not be written: {error.strerror}; make room for it, or write it elsewhere, then run the "
        "command again",
        "machine",
    )


def abandon() -> None:
    """Drop what is buffered for standard output, since the interpreter would try to write it once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_code(error: CoreTablesError) -> int:
    """The exit code of an error."""
    match error:
        case ContractError():
            return EXIT_REFUSED
        case UnavailableError(dependency="kafka"):
            return EXIT_KAFKA
        case UnavailableError():
            return EXIT_POSTGRES
        case SetupError(subject=subject):
            return _SUBJECTS[subject]
        case FatalClientError():
            return EXIT_CLIENT
        case LaneStoppedError():
            return EXIT_LANE_STOPPED
        case _:
            return EXIT_REFUSED if error.reason_code else EXIT_LANE_STOPPED


def describe(error: CoreTablesError) -> str:
    """An error in one line: reason code and field where there are any, and the message."""
    head = " ".join(part for part in (error.reason_code, error.field and f"({error.field})") if part)
    return f"{head}: {error.message}" if head else error.message


def fail(error: CoreTablesError) -> NoReturn:
    """Print what is wrong, and exit with the code of the error."""
    err.print(f"error: {describe(error)}", markup=False)
    sys.exit(exit_code(error))


def say(line: str) -> None:
    """Print a line of progress on standard error."""
    err.print(line, markup=False)


def emit_json(value: object) -> None:
    """Print one JSON document on one line, in UTF-8 whatever the encoding of the terminal is."""
    try:
        sys.stdout.buffer.write(orjson.dumps(value, default=_plain) + b"\n")
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(error) from error


def emit_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; where there are no rows, the title and `none`."""
    if not rows:
        out.print(f"{title}: none", markup=False)
        return
    # Text, since a plain string would be parsed as markup, and the values come from records.
    table = Table(title=Text(printable(title), style="table.title"), title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in row))
    out.print(table)


def emit_records(title: str, records: Sequence[Mapping[str, object]]) -> None:
    """Print records as a table, without the columns that are empty in all of them."""
    filled = [name for name in (records[0] if records else ()) if any(record[name] is not None for record in records)]
    emit_rows(title, filled, [[record[name] for name in filled] for record in records])


def emit_list(title: str, records: Sequence[Mapping[str, object]], as_json: bool) -> None:
    """Print records as a table, or as JSON, one a line."""
    if not as_json:
        emit_records(title, records)
        return
    for record in records:
        emit_json(record)


def emit_more(options: str, as_json: bool) -> None:
    """Say with which options the next page is asked for; next to JSON, on standard error."""
    (err if as_json else out).print(f"there may be more: {options}", markup=False)


def nothing(what: str) -> NoReturn:
    """Say that nothing was found, and end the command."""
    err.print(f"{what}: nothing found", markup=False)
    sys.exit(EXIT_NOT_FOUND)


def emit_record(title: str, record: Mapping[str, object]) -> None:
    """Print one record, a field a line, without empty fields."""
    emit_rows(
        title,
        ("field", "value"),
        [(name, _shown(value)) for name, value in record.items() if value not in (None, [], {})],
    )


class _RateColumn(ProgressColumn):
    """How many per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f}/s" if task.speed else "")


@contextlib.contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Any]:
    """Yield `advance(done)`, which shows how much is done: as a bar on a terminal, as a line every ten seconds elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    if not err.is_terminal:
        yield _Lines(what, total)
        return
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


class _Lines:
    """Progress where there is no terminal: a line every ten seconds."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = total
        self._started = self._said = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._said < LINE_EVERY_S:
            return
        self._said = now
        rate = done / (now - self._started)
        of = left = ""
        if self._total is not None:
            of, left = f" of {self._total}", f", about {max(0, self._total - done) / max(rate, 1e-9):.0f} s left"
        err.print(f"{self._what}: {done}{of}, {rate:.0f}/s{left}", markup=False)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value, default=_plain).decode()


def _plain(value: object) -> object:
    if isinstance(value, tuple):  # a named tuple is its fields
        fields = getattr(value, "_asdict", None)
        return fields() if fields is not None else list(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")
