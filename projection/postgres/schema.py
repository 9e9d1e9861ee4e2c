"""What the migrations make of a database, and what of it is missing in one: after a restore, or by somebody's hand.

The migrations themselves say what is right. They are run once more next to the schema that is there, in a transaction that is
rolled back, and Postgres is asked what both consist of.
"""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.fetch import fetch
from core_tables.schemas.reasons import SetupError


class SchemaPart(NamedTuple):
    """A part of the schema: a table, a policy, a grant and so on, by its name.

    Attributes:
        step: parts of a lower step are made first.
        definition: how it is defined, in the words of Postgres.
        make: the statements that make it, or None for what holds rows.
        widens: whether it lets PUBLIC or one of our roles do more.
    """

    step: int
    name: str
    definition: str
    make: list[str] | None
    widens: bool


def put_right(connection: Connection, applied: Sequence[LiteralString]) -> list[str]:
    """Make what is missing or different in a database to which migrations were applied; return the names of the parts.

    Raises SetupError, and changes nothing, if a part cannot be made, or one is there that the migrations do not make and that
    lets somebody do more; and psycopg.Error.
    """
    if not applied:
        return []
    expected, found = _expected(connection, applied), _parts(connection)
    wrong = [part for name, part in expected.items() if name not in found or found[name].definition != part.definition]
    for part in wrong:
        if part.make is None:
            raise cannot_be_made(part.name, "not as the migrations make it" if part.name in found else "missing")
    for name, part in found.items():
        if part.widens and name not in expected:
            raise SetupError(
                f"the database lets more be done than the migrations do: {name} was added; drop or revoke it, then run "
                "`core-tables init` again",
                "database",
            )
    with connection.transaction():
        for part in wrong:
            for statement in part.make or ():
                connection.execute(statement.encode())
    return [part.name for part in wrong]


def cannot_be_made(name: str, state: str) -> SetupError:
    """The error of a part that holds rows, and so cannot be made by a statement."""
    return SetupError(
        f"the database cannot be put right: {name} is {state}; restore Postgres from a copy, or fill an empty database from the "
        "topic (docs/RELIABILITY.md, Backup)",
        "database",
    )


def _expected(connection: Connection, applied: Sequence[LiteralString]) -> dict[str, SchemaPart]:
    """What the migrations make, in a transaction that leaves nothing behind and locks no table."""
    with connection.transaction(force_rollback=True):
        connection.execute("alter schema os_core rename to os_core_found")
        for text in applied:
            connection.execute(text)
        return _parts(connection)


def _parts(connection: Connection) -> dict[str, SchemaPart]:
    with connection.transaction():
        return {part.name: part for part in fetch(connection, SchemaPart, "read_schema")}
