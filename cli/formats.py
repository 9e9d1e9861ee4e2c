"""Rows and records in the form that was asked for: a table for a person, JSON or CSV for a program.

Tables have times in ISO form, in milliseconds; CSV has them whole, and JSON in nanoseconds. What a person reads has control
characters as escapes.
"""

import csv
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from rich.text import Text

from core_tables.cli import output
from core_tables.cli.layout import record_lines, row_line, table_lines, widths_of
from core_tables.cli.times import rounded_time, shown_time

Shown = Mapping[str, Any]


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def emit_list(title: str, records: Sequence[Shown], form: Format, columns: Sequence[str] | None = None) -> None:
    """Print records: as a table of some columns, or of all that are not empty; whole as JSON or CSV, one a line."""
    listing = Listing(title, form, columns)
    listing.add(records)
    if form is Format.TABLE and not records:
        output.out.print(f"{title}: none", markup=False)


class Listing:
    """Prints records as they come; a table keeps its columns, which grow with what comes later."""

    def __init__(self, title: str, form: Format, columns: Sequence[str] | None = None) -> None:
        self._title = title
        self._form = form
        self._columns = columns
        self._names: list[str] = []
        self._widths: list[int] = []

    def add(self, records: Sequence[Shown]) -> None:
        """Print some more."""
        if not records:
            return
        match self._form:
            case Format.JSON:
                for record in records:
                    output.emit_json(record)
            case Format.CSV:
                self._add_csv(records)
            case Format.TABLE:
                self._add_to_table(records)

    def _add_csv(self, records: Sequence[Shown]) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self._names:
            self._names = list(dict.fromkeys(name for record in records for name in record))
            writer.writerow(self._names)
        for record in records:
            cells = [cell_text(name, record.get(name), shown_time) for name in self._names]
            writer.writerow(map(output.printable, cells) if sys.stdout.isatty() else cells)
        output.write(text.getvalue().encode())

    def _add_to_table(self, records: Sequence[Shown]) -> None:
        if not self._names:
            names = self._columns or list(dict.fromkeys(name for record in records for name in record))
            self._names = [name for name in names if any(record.get(name) is not None for record in records)]
            rows = self._rows(records)
            self._widths = widths_of(self._names, rows)
            emit_table(self._title, self._names, rows, _numbers(self._names, records))
            return
        rows = self._rows(records)
        grown = widths_of(self._names, rows)
        self._widths = [max(pair) for pair in zip(self._widths, grown, strict=True)]
        right = _numbers(self._names, records)
        for cells in rows:
            output.out.print(row_line(cells, self._widths, right), markup=False)

    def _rows(self, records: Sequence[Shown]) -> list[list[str]]:
        return [[output.printable(cell_text(name, record.get(name))) for name in self._names] for record in records]


def emit_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table of rows; where there are none, the title and `none`."""
    emit_list(title, [dict(zip(columns, row, strict=True)) for row in rows], Format.TABLE, columns)


def emit_table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
    """Print a table of texts below its title."""
    output.out.print(Text(output.printable(title), style="bold"))
    for line in table_lines(names, rows, right, screen_width()):
        output.out.print(line, markup=False)


def emit_one(title: str, record: Shown, form: Format) -> None:
    """Print one record: a field a line without those that are empty, or as JSON or CSV with all of them."""
    if form is not Format.TABLE:
        emit_list(title, [record], form)
        return
    output.out.print(Text(output.printable(title), style="bold"))
    fields = [(name, _values(name, value)) for name, value in record.items() if value not in (None, [], {}, ())]
    for line in record_lines(fields, screen_width()):
        output.out.print(line, markup=False)


def emit_more(options: str, form: Format) -> None:
    """Say with which options the next page is asked for; next to JSON or CSV, on standard error."""
    (output.out if form is Format.TABLE else output.err).print(f"there may be more: {options}", markup=False)


def screen_width() -> int | None:
    """The columns of the terminal, or of COLUMNS; None for a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None


def cell_text(name: str, value: object, time_text: Callable[[int], str] = rounded_time) -> str:
    """A value as tables have it, and CSV with whole times."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return str(value).lower()
        case int() if name.endswith("_at"):
            return time_text(value)
        case datetime():
            return value.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat() + "Z"
        case list() | tuple() if all(isinstance(item, str) for item in value) and not hasattr(value, "_fields"):
            return ", ".join(value)
        case _:
            return output.json_text(value)


def _values(name: str, value: object) -> list[str]:
    """The lines of a field of a record."""
    if isinstance(value, Mapping):
        return [output.printable(f"{key}: {_inner(key, each)}") for key, each in value.items() if each is not None]
    if isinstance(value, list):
        return [output.printable(each if isinstance(each, str) else _inner(name, each)) for each in value]
    return [output.printable(cell_text(name, value))]


def _inner(name: str, value: object) -> str:
    """A value within another: on one line, as JSON, except for times."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_inner(key, each)}" for key, each in value.items() if each is not None)
    return cell_text(name, value) if name.endswith("_at") and isinstance(value, int) else output.json_text(value)


def _numbers(names: Sequence[str], records: Iterable[Shown]) -> list[bool]:
    """Of each column, whether it has numbers only."""
    found = list(records)
    return [
        not name.endswith("_at")
        and all(isinstance(record.get(name), int | float | None) and record.get(name) is not True for record in found)
        for name in names
    ]
