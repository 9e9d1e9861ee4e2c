"""Where the command prints to, how its errors read, and its exit codes; formats.py has rows and records.

What a person reads may hold texts of records, so control characters are escaped there: they could drive the terminal. JSON
is left as it is.
"""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import orjson
from rich.console import Console

from core_tables.cli.layout import paragraph
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


out: Final = _Console(highlight=False, soft_wrap=True, emoji=False)
err: Final = _Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


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
    say(f"error: {describe(error)}")
    sys.exit(exit_code(error))


def say(sentence: str) -> None:
    """Print a sentence on standard error, on as many lines as a terminal needs for it."""
    _sentence(err, sentence)


def tell(sentence: str) -> None:
    """The same on standard output."""
    _sentence(out, sentence)


def lines_of(sentence: str, console: Console | None = None) -> list[str]:
    """A sentence on as many lines as a console needs for it; that of errors, unless another is given."""
    console = console or err
    return paragraph(printable(sentence), console.width if console.is_terminal else None)


def _sentence(console: Console, sentence: str) -> None:
    for line in lines_of(sentence, console):
        console.print(line, markup=False)


def emit_json(value: object) -> None:
    """Print one JSON document on one line, in UTF-8 whatever the encoding of the terminal is."""
    write(orjson.dumps(value, default=_plain) + b"\n")


def json_text(value: object) -> str:
    """A value in JSON."""
    return orjson.dumps(value, default=_plain).decode()


def write(data: bytes) -> None:
    """Write to standard output as it is. Raises SetupError if that is not possible."""
    try:
        sys.stdout.buffer.write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(error) from error


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """Around what shows something until Ctrl-C, which is its usual end."""
    try:
        yield
    except KeyboardInterrupt:
        flush()
        sys.exit(EXIT_INTERRUPTED)


def nothing(what: str) -> NoReturn:
    """Say that nothing was found, and end the command."""
    say(f"{what}: nothing found")
    sys.exit(EXIT_NOT_FOUND)


def _plain(value: object) -> object:
    if isinstance(value, tuple):  # a named tuple is its fields
        fields = getattr(value, "_asdict", None)
        return fields() if fields is not None else list(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")
