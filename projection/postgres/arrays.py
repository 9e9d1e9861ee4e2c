"""The rows of a batch as binary parameters: as arrays, one a column and each made in one go, or one by one.

psycopg's own list dumper looks at every element and calls a dumper for it, which was half of the worker's time to write.
Source: Postgres' `array_recv`: dimensions, has nulls, element type, length, lower bound; each value with its size before it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from struct import Struct, pack
from typing import Any, Final

from core_tables.projection.postgres.statements import sql

_HEADER: Final = Struct("!iiIii")
_SIZE: Final = Struct("!i")
_SIZES: Final = [_SIZE.pack(size) for size in range(1024)]
_NULL: Final = _SIZE.pack(-1)
BIGINT: Final = Struct("!q")
_BOOLEAN: Final = Struct("!?")
_BIGINT_ELEMENT: Final = Struct("!iq")
_BOOLEANS: Final = {None: _NULL, True: _SIZE.pack(1) + b"\1", False: _SIZE.pack(1) + b"\0"}


@dataclass(frozen=True, slots=True)
class TextArray:
    """A text[] in its binary form."""

    data: bytes


@dataclass(frozen=True, slots=True)
class BigintArray:
    """A bigint[] in its binary form."""

    data: bytes


@dataclass(frozen=True, slots=True)
class BooleanArray:
    """A boolean[] in its binary form."""

    data: bytes


Array = TextArray | BigintArray | BooleanArray
OIDS: Final[dict[type[Array], int]] = {TextArray: 1009, BigintArray: 1016, BooleanArray: 1000}


def text_array(values: Sequence[str | None]) -> TextArray:
    """The array of texts."""
    parts: list[bytes] = [_header(25, values)]
    put = parts.append
    for value in values:
        if value is None:
            put(_NULL)
        else:
            encoded = value.encode()
            size = len(encoded)
            put(_SIZES[size] if size < 1024 else _SIZE.pack(size))
            put(encoded)
    return TextArray(b"".join(parts))


def bigint_array(values: Sequence[int | None]) -> BigintArray:
    """The array of 64-bit whole numbers."""
    if None in values:
        body = b"".join([_NULL if value is None else _BIGINT_ELEMENT.pack(8, value) for value in values])
    else:
        flat = [8] * (2 * len(values))
        flat[1::2] = values  # type: ignore[assignment]
        body = pack("!" + "iq" * len(values), *flat)
    return BigintArray(_header(20, values) + body)


def boolean_array(values: Sequence[bool | None]) -> BooleanArray:
    """The array of booleans."""
    return BooleanArray(_header(16, values) + b"".join([_BOOLEANS[value] for value in values]))


def columns(statement: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
    """The parameters of a statement that takes rows as columns; their types are the casts in its file."""
    return [make(column) for make, column in zip(_makers(statement), zip(*rows, strict=True), strict=True)]


def fields(statement: str, row: Sequence[Any]) -> list[bytes | None]:
    """The parameters of the same statement for one row (sql/one_row/), in their binary form."""
    return [None if value is None else encode(value) for encode, value in zip(_encoders(statement), row, strict=True)]


@cache
def _encoders(statement: str) -> list[Callable[[Any], bytes]]:
    encoders: dict[str, Callable[[Any], bytes]] = {"text": str.encode, "bigint": BIGINT.pack, "boolean": _BOOLEAN.pack}
    return [encoders[kind] for kind in _kinds(statement)]


@cache
def _makers(statement: str) -> list[Callable[[Any], Any]]:
    makers: dict[str, Callable[[Any], Any]] = {"text": text_array, "bigint": bigint_array, "boolean": boolean_array}
    return [makers[kind] for kind in _kinds(statement)]


def _kinds(statement: str) -> list[str]:
    return re.findall(r"%b::(\w+)\[\]", sql(statement))


def _header(oid: int, values: Sequence[object]) -> bytes:
    return _HEADER.pack(1, None in values, oid, len(values), 1)
