"""Migrations, and what a database must look like before anybody works with it.

Each migration is one transaction. Its second line says whether workers of the release before it may continue after it.
"""

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Final, LiteralString, NamedTuple

import psycopg

from core_tables.projection.fold.evolve import FOLD_VERSION
from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.fetch import fetch, run
from core_tables.projection.postgres.lanes import lane_positions, ledger_topics
from core_tables.projection.postgres.schema import cannot_be_made, put_right
from core_tables.schemas.reasons import LaneStoppedError, SetupError, UnavailableError
from core_tables.schemas.topic import LedgerTopic

_FOLDER: Final = files("core_tables.projection.postgres") / "migrations"
_NUMBERED: Final = re.compile(r"\d{4}\..+\.sql")
_COMPATIBLE: Final = re.compile(r"^-- compatible: (yes|no)$", re.MULTILINE)
_IS_THERE: Final = (
    psycopg.errors.DuplicateSchema,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateColumn,
    psycopg.errors.DuplicateObject,
    psycopg.errors.DuplicateFunction,
)


class _Problem(NamedTuple):
    """What check_schema.sql finds wrong."""

    problem: str


class _Applied(NamedTuple):
    """A migration that a database has."""

    name: str
    compatible: bool


class _Found(NamedTuple):
    has_schema: bool
    has_migrations: bool


@cache
def migrations() -> Mapping[str, LiteralString]:
    """The migrations of this release by name, in order."""
    names = sorted(entry.name for entry in _FOLDER.iterdir() if _NUMBERED.fullmatch(entry.name))
    return {name.removesuffix(".sql"): _text(name) for name in names}


def _text(name: str) -> LiteralString:
    """A file of the folder. It is our own, never assembled from values, and therefore literal."""
    text: LiteralString = (_FOLDER / name).read_text("utf-8")
    return text


def migrate(connection: Connection) -> list[str]:
    """Make a database what this release needs; return what was done. Needs an administrator's connection.

    Roles are created, what the migrations made before and is missing now is created again (after a restore, for example), and new
    migrations are applied. Raises SetupError, also while another `init` is at it, and if the database cannot be put right.
    """
    with migrating_alone(connection), _as_administrator(connection), of_one_copy():
        with connection.transaction():
            connection.execute(_text("roles.sql"))
        applied = [migration.name for migration in _applied(connection)]
        further = [name for name in applied if name not in migrations()]
        if further:
            raise SetupError(
                f"the database has the migration {further[0]}, which this release does not know; use `core-tables init` of "
                "the release that applied it",
                "database",
            )
        done = [f"made {name}" for name in put_right(connection, [migrations()[name] for name in applied])]
        for name, text in migrations().items():
            if name not in applied:
                with connection.transaction():
                    connection.execute(text)
                    run(connection, "insert_migration", name, _is_compatible(text))
                done.append(f"applied the migration {name}")
    return done


def register_topic(connection: Connection, row: LedgerTopic, lanes: Collection[int]) -> bool:
    """Make lanes of a topic, unless they exist. False if they do. Raises SetupError if some do, or they are another topic's."""
    with translated(), connection.transaction():
        for known in ledger_topics(connection):
            if known.topic_id == row.topic_id:
                lacking = sorted(set(lanes) - lane_positions(connection, lanes).keys())
                if lacking:
                    raise _only_a_part(f"it has no row for the lanes {lacking} of {row.topic}")
                return False
            if known.topic == row.topic:
                raise SetupError(
                    f"the database was filled from another topic called {row.topic} (id {known.topic_id}); "
                    "the broker's was deleted and recreated: restore it, or give the ledger a new topic (set CORE_TABLES_TOPIC and "
                    "CORE_TABLES_AUDIT_TOPIC, then run `core-tables init`)",
                    "database",
                )
        run(connection, "insert_topic", *row)
        run(connection, "insert_lanes", FOLD_VERSION, sorted(lanes))
    return True


def check_database(connection: Connection) -> None:
    """Check that a worker of this release can work here: tables, policies, triggers, migrations, its role. Raises SetupError."""
    with translated(), connection.transaction():
        problems = [found.problem for found in fetch(connection, _Problem, "check_schema")]
    if problems and problems[0].startswith("permission denied"):
        raise SetupError(problems[0], "permission")
    if problems:
        raise SetupError(
            f"the database is not as it should be: {problems[0]}; run `core-tables init`, or ask who changed it",
            "database",
        )
    check_release(connection)


def check_release(connection: Connection) -> None:
    """Check that this release may write to a database, by the migrations that it has. Raises SetupError or UnavailableError."""
    with translated():
        applied = _applied(connection)
    names = {migration.name for migration in applied}
    for name in migrations():
        if name not in names:
            raise SetupError(
                f"the database does not have the migration {name}; run `core-tables init` of this release", "database"
            )
    for migration in applied:
        if migration.name not in migrations() and not migration.compatible:
            raise SetupError(
                f"the database has the migration {migration.name} of a newer release, after which older ones may not work with "
                "it; deploy a worker of that release",
                "database",
            )


def _applied(connection: Connection) -> list[_Applied]:
    """The migrations that a database has; none if nothing was ever applied."""
    with connection.transaction():
        for found in fetch(connection, _Found, "find_migrations"):
            if found.has_schema and not found.has_migrations:
                raise cannot_be_made("the table os_core.migrations", "missing")
            if not found.has_schema:
                return []
        return fetch(connection, _Applied, "load_migrations")


def _is_compatible(text: str) -> bool:
    found = _COMPATIBLE.search(text)
    assert found is not None, "a migration says whether it is compatible"  # noqa: S101 - a test reads all of them
    return found[1] == "yes"


@contextmanager
def of_one_copy() -> Iterator[None]:
    """Say that a database holds a part of a ledger, where Postgres says which row or object it meets there."""
    try:
        with translated():
            yield
    except LaneStoppedError as error:
        if not isinstance(error.__cause__, (psycopg.IntegrityError, *_IS_THERE)):
            raise
        what = ": ".join(filter(None, (error.__cause__.diag.message_primary, error.__cause__.diag.message_detail)))
        raise _only_a_part(what.rstrip(".")) from error


def _only_a_part(what: str) -> SetupError:
    """The error of a database that holds a part of a ledger."""
    return SetupError(
        f"the database holds only a part of a ledger ({what}), as after a restore that was not finished, or was done twice; "
        "restore the whole copy into an empty database, or fill an empty database from the topic (docs/RELIABILITY.md, Backup)",
        "database",
    )


@contextmanager
def _as_administrator(connection: Connection) -> Iterator[None]:
    """Say what a role needs to be an administrator, where Postgres says only what it lacks."""
    try:
        with translated():
            yield
    except SetupError as error:
        if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
            raise
        raise SetupError(
            f"the role {connection.info.user} may not set up this database: {error.__cause__.diag.message_primary}; "
            "`core-tables init` needs an administrator's DSN: a superuser, or a role with CREATEROLE that owns the database "
            "(docs/CONFIGURATION.md, Postgres)",
            "permission",
        ) from error


@contextmanager
def migrating_alone(connection: Connection) -> Iterator[None]:
    """Hold the lock of those who migrate; it ends with its session, however that ends."""
    try:
        with translated(), connection.transaction():
            connection.execute("select pg_advisory_lock(hashtextextended('core-tables init', 0))")
    except UnavailableError as error:
        if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
            raise
        message = "another `core-tables init` works on this database; wait until it ends, or end its session"
        raise SetupError(message, "database") from error
    try:
        yield
    finally:
        with contextlib.suppress(psycopg.Error):
            connection.execute("select pg_advisory_unlock(hashtextextended('core-tables init', 0))")
            connection.commit()
