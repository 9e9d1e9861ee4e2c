"""Single statements over a connection: rows go in as JSON and come out as typed values, matched by the names of columns.

What somebody waits for, and what the worker does, travels in pipelines instead (pipeline.py).
"""

from collections.abc import Sequence
from typing import TypeVar

import psycopg
from msgspec import Struct
from msgspec.json import encode
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.statements import sql

_R = TypeVar("_R")

# A list of rows is one parameter, which the statement reads with jsonb_to_recordset.
Argument = str | int | float | Sequence[int] | Sequence[Struct]


def fetch(connection: Connection, kind: type[_R], statement: str, *parameters: Argument) -> list[_R]:
    """Run the statement of sql/<statement>.sql; its rows, each made with the names of its columns. Raises psycopg.Error."""
    return query(connection, kind, statement, *parameters).fetchall()


def query(connection: Connection, kind: type[_R], statement: str, *parameters: Argument) -> psycopg.Cursor[_R]:
    """The same, and the rows can be taken later; in a pipeline of psycopg the statement has not run yet."""
    cursor = connection.cursor(row_factory=class_row(kind), binary=True)
    return cursor.execute(sql(statement), _adapted(parameters))


def run(connection: Connection, statement: str, *parameters: Argument) -> None:
    """Run a statement whose rows nobody needs. Raises psycopg.Error."""
    connection.execute(sql(statement), _adapted(parameters))


def _adapted(values: Sequence[Argument]) -> list[object] | None:
    """The parameters as psycopg takes them: none at all where there are none, so that a % is a % in the statement."""
    return [_adapted_value(value) for value in values] or None


def _adapted_value(value: Argument) -> object:
    if isinstance(value, Sequence) and value and isinstance(value[0], Struct):
        return Jsonb(value, dumps=encode)
    return value if isinstance(value, str | int | float) else list(value)
