"""How rows and records lie on the lines of a screen: no identifier is cut or folded, and no word is broken.

A width of None is that of a file or a pipe: each row is one line, however long, for `grep` and `cut`.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from rich.cells import cell_len

GAP: Final = "  "
_PARTS: Final = re.compile(r"[^_ ]*[_ ]|[^_ ]+")  # of the name of a column
_LEAST_TEXT: Final = 20  # columns that a text is given before rows are shown as records instead

Cells = Sequence[str]


def widths_of(names: Cells, rows: Sequence[Cells]) -> list[int]:
    """The widths of columns that show everything on one line each."""
    return [max(map(cell_len, column)) for column in zip(names, *rows, strict=True)]


def row_line(cells: Cells, widths: Sequence[int], right: Sequence[bool]) -> str:
    """One line with the cells of a row; those of numbers lie at the right of their column."""
    padded = (
        " " * (width - cell_len(cell)) + cell if at_right else cell + " " * (width - cell_len(cell))
        for cell, width, at_right in zip(cells, widths, right, strict=True)
    )
    return GAP.join(padded).rstrip()


def table_lines(names: Cells, rows: Sequence[Cells], right: Sequence[bool], width: int | None) -> Iterator[str]:
    """The lines of a table, its head first; where it is too wide, names and texts are wrapped, or rows are records."""
    widths = widths_of(names, rows)
    fitting = _fitted(widths, names, rows, width)
    if fitting is None:
        for before, cells in pairwise(((), *rows)):
            if before:
                yield ""
            filled = [(name, [cell]) for name, cell in zip(names, cells, strict=True) if cell]
            yield from record_lines(filled, width, indent=max(map(cell_len, names)) + len(GAP))
        return
    yield from _lines([_head(name, limit) for name, limit in zip(names, fitting, strict=True)], fitting, right)
    for cells in rows:
        yield from _lines([_wrapped(cell, limit) for cell, limit in zip(cells, fitting, strict=True)], fitting, right)


def record_lines(fields: Sequence[tuple[str, Cells]], width: int | None, indent: int = 0) -> Iterator[str]:
    """The lines of one record: a field a line, and a line for each of its values if it has several."""
    indent = max(indent, *(cell_len(name) + len(GAP) for name, _ in fields)) if fields else indent
    for name, values in fields:
        label = name
        for value in values:
            for part in _wrapped(value, None if width is None else max(width - indent, _LEAST_TEXT)):
                yield (label + " " * (indent - cell_len(label)) + part).rstrip()
                label = ""


def paragraph(text: str, width: int | None) -> list[str]:
    """A sentence on as many lines as it needs."""
    return _wrapped(text, width)


def _lines(wrapped: Sequence[list[str]], widths: Sequence[int], right: Sequence[bool]) -> Iterator[str]:
    for line in range(max(map(len, wrapped))):
        yield row_line([parts[line] if line < len(parts) else "" for parts in wrapped], widths, right)


def _head(name: str, width: int) -> list[str]:
    """The name of a column on as many lines as it needs, broken behind underscores and spaces."""
    lines = [""]
    for part in _PARTS.findall(name):
        if lines[-1] and cell_len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def _fitted(widths: list[int], names: Cells, rows: Sequence[Cells], width: int | None) -> list[int] | None:
    """The widths of columns that fit: texts are wrapped, else names, else both. None if the last column has no room left.

    An identifier in the last column may be longer than what is left.
    """
    if width is None:
        return widths
    room = width - len(GAP) * (len(widths) - 1)
    columns = list(zip(*rows, strict=True))
    whole_cells = [max(map(cell_len, column)) for column in columns]
    whole_names = [cell_len(name) for name in names]
    words = [
        max(_LEAST_TEXT, *map(_longest_word, column)) if any(" " in cell for cell in column) else whole
        for column, whole in zip(columns, whole_cells, strict=True)
    ]
    parts = [max((cell_len(part.rstrip()) for part in _PARTS.findall(name)), default=0) for name in names]
    for least in ([*widths], _larger(words, whole_names), _larger(whole_cells, parts), _larger(words, parts)):
        fitted = _shrunk(widths, least, room)
        if sum(fitted) <= room:
            return fitted
    *others, _ = fitted
    return fitted if room - sum(others) >= _LEAST_TEXT else None


def _larger(some: Sequence[int], others: Sequence[int]) -> list[int]:
    return [max(pair) for pair in zip(some, others, strict=True)]


def _shrunk(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths from which as much is taken as is needed, the widest first, but no more than what leaves the least."""
    fitted = list(widths)
    for number in sorted(range(len(widths)), key=lambda number: -widths[number]):
        over = max(0, sum(fitted) - room)
        fitted[number] = max(min(least[number], widths[number]), fitted[number] - over)
    return fitted


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split(" ")))


def _wrapped(text: str, width: int | None) -> list[str]:
    """The text on lines of a width, as terminals count it; textwrap counts characters."""
    if width is None or cell_len(text) <= width:
        return [text]
    lines: list[str] = []
    left = 0
    for word in text.split():
        if lines and cell_len(word) < left:
            lines[-1] += f" {word}"
            left -= cell_len(word) + 1
        else:
            lines.append(word)
            left = width - cell_len(word)
    return lines or [text]
