"""Migrations, and what a database must look like before anybody works with it."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from typing import Any, NamedTuple
from urllib.parse import urlencode

import psycopg

from core_tables.projection.fold.evolve import FOLD_VERSION
from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.fetch import fetch, run
from core_tables.projection.postgres.lanes import ledger_topics
from core_tables.schemas.reasons import SetupError, UnavailableError
from core_tables.schemas.topic import LedgerTopic


class _Problem(NamedTuple):
    """What check_schema.sql finds wrong."""

    problem: str


def migrate(connection: Connection) -> list[str]:
    """Apply the migrations that are missing, in order; return their names. Needs an administrator's connection.

    Raises SetupError, also while another `init` is at it.
    """
    import yoyo  # it takes long to import, and only `init` needs it

    with migrating_alone(connection), translated():
        backend: Any = yoyo.get_backend(_yoyo_uri(connection))
        _break_lock(backend, connection.info.user)
        with as_file(files("core_tables.projection.postgres") / "migrations") as folder, backend.lock():
            missing = backend.to_apply(yoyo.read_migrations(str(folder)))
            backend.apply_migrations(missing)
            return [migration.id for migration in missing]


def register_topic(connection: Connection, row: LedgerTopic) -> bool:
    """Make the lanes of a topic, unless they exist. False if they do. Raises SetupError if they are another topic's."""
    with translated(), connection.transaction():
        for known in ledger_topics(connection):
            if known.topic_id == row.topic_id:
                return False
            if known.topic == row.topic:
                raise SetupError(
                    f"the database was filled from another topic called {row.topic} (id {known.topic_id}); "
                    "the broker's was deleted and recreated: restore it, or start with an empty database",
                    "database",
                )
        run(connection, "insert_topic", *row)
        run(connection, "insert_lanes", FOLD_VERSION, row.first_lane, row.partitions)
    return True


def check_database(connection: Connection) -> None:
    """Tables, policies and triggers are as the migrations made them, and this role cannot pass them by. Raises SetupError."""
    with translated(), connection.transaction():
        problems = [found.problem for found in fetch(connection, _Problem, "check_schema")]
    if problems and problems[0].startswith("permission denied"):
        raise SetupError(problems[0], "permission")
    if problems:
        raise SetupError(
            f"the database is not as it should be: {problems[0]}; run `core-tables init`, or ask who changed it",
            "database",
        )


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


def _break_lock(backend: Any, user: str) -> None:
    """The library's own lock is a row, which an `init` that was killed leaves behind; nobody else is here now."""
    try:
        backend.break_lock()
    except psycopg.errors.UndefinedTable as error:  # it says nothing when it may not create its tables
        message = (
            f"the role {user} may not create tables in this database; `core-tables init` needs an administrator's DSN"
        )
        raise SetupError(message, "permission") from error


def _yoyo_uri(connection: Connection) -> str:
    """The connection's address as the migration library takes it; our timeouts are not for migrations."""
    parameters = connection.info.get_parameters()
    parameters.pop("options", None)
    if connection.info.password:
        parameters["password"] = connection.info.password
    return f"postgresql+psycopg:///?{urlencode(parameters)}"
