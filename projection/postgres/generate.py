"""Writes the column lists of sql/*.sql from the classes of row_types.py and keys.py.

In a statement, a list stands between `/* <what> <class> */` and `/* end */`. `make generate` writes the lists; a test holds
the files against this.
"""

import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from msgspec import Struct

from core_tables.projection.postgres import keys, row_types
from core_tables.projection.postgres.row_types import FIXED, KEPT, KEY

FOLDER: Final = Path(__file__).parent / "sql"
KINDS: Final[dict[str, type[Struct]]] = {
    name: kind
    for module in (row_types, keys)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, Struct)
}
_LIST: Final = re.compile(r"^([ \t]*)/\* (\w+) (\w+) \*/\n.*?^[ \t]*/\* end \*/$", re.MULTILINE | re.DOTALL)
_SHORT: Final = re.compile(r"/\* (\w+) (\w+) \*/[^\n]*?/\* end \*/")
_WIDTH: Final = 110
_STICKY: Final = "\xa0"  # a space where no line may end


class Column(NamedTuple):
    """A column: its type, whether it may be null, and what statements do with it (row_types.KEY and so on; None: write it)."""

    name: str
    kind: str
    nullable: bool
    role: str | None


def columns_of(kind: type[Struct]) -> list[Column]:
    """The columns of a row, in order."""
    hints = get_type_hints(kind, include_extras=True)
    return [_column(name, hints[name]) for name in hints if name in kind.__struct_fields__]


def _column(name: str, hint: object) -> Column:
    marks: tuple[object, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *found = get_args(hint)
        marks = tuple(found)
    nullable = get_origin(hint) in (Union, UnionType)
    if nullable:
        (hint,) = (each for each in get_args(hint) if each is not type(None))
        if get_origin(hint) is Annotated:
            hint, *found = get_args(hint)
            marks = (*marks, *found)
    roles = [str(mark) for mark in marks if mark in (KEY, FIXED, KEPT)]
    kinds = [str(mark) for mark in marks if mark not in (KEY, FIXED, KEPT)]
    return Column(name, kinds[0] if kinds else _sql_type(hint), nullable, roles[0] if roles else None)


def _sql_type(hint: object) -> str:
    if hint is bool:
        return "boolean"
    if hint is int:
        return "bigint"
    if hint is str or get_origin(hint) is Literal:
        return "text"
    return "jsonb"


def _names(columns: list[Column]) -> Iterator[str]:
    return (column.name for column in columns)


def _record(columns: list[Column]) -> Iterator[str]:
    return (f"{column.name} {column.kind}" for column in columns)


def _select(columns: list[Column]) -> Iterator[str]:
    return (f"row.{column.name}{'::text' if column.kind == 'numeric' else ''}" for column in columns)


def _nulls(columns: list[Column]) -> Iterator[str]:
    return (f"null as {column.name}" for column in columns if column.role != KEY)


def _upsert(columns: list[Column]) -> Iterator[str]:
    return (f"{column.name} = excluded.{column.name}" for column in columns if column.role not in (KEY, FIXED))


def _moved(columns: list[Column]) -> Iterator[str]:
    return _record([column for column in columns if column.role not in (FIXED, KEPT)])


def _update(columns: list[Column]) -> Iterator[str]:
    return (f"{column.name} = batch.{column.name}" for column in columns if column.role is None)


# What a list can be: of all columns, of all but the key, of those that an upsert sets, or that an update takes and sets.
_LISTS: Final[dict[str, Callable[[list[Column]], Iterator[str]]]] = {
    "names": _names,
    "record": _record,
    "select": _select,
    "nulls": _nulls,
    "upsert": _upsert,
    "moved": _moved,
    "update": _update,
}


def with_lists(text: str) -> str:
    """A statement with its lists as they should be."""
    text = _SHORT.sub(lambda found: f"/* {found[1]} {found[2]} */ {_listed(found[1], found[2])} /* end */", text)
    return _LIST.sub(_lines, text)


def _lines(found: re.Match[str]) -> str:
    indent, what, kind = found.groups()
    unbroken = (
        _listed(what, kind).replace(", ", ",\n").replace(" ", _STICKY).replace("\n", " ")
    )  # a line ends after a comma
    lines = textwrap.wrap(unbroken, _WIDTH, initial_indent=indent, subsequent_indent=indent)
    return "\n".join([f"{indent}/* {what} {kind} */", *lines, f"{indent}/* end */"]).replace(_STICKY, " ")


def _listed(what: str, kind: str) -> str:
    return ", ".join(_LISTS[what](columns_of(KINDS[kind])))


if __name__ == "__main__":
    for file in sorted(FOLDER.glob("*.sql")):
        file.write_text(with_lists(file.read_text("utf-8")), "utf-8")
