"""Migrations, and what a database must look like before anybody works with it."""

from importlib.resources import as_file, files
from typing import Any

import yoyo
from psycopg.conninfo import conninfo_to_dict

from core_tables.projection.database import Connection, translated
from core_tables.projection.evolve import FOLD_VERSION
from core_tables.projection.statements import sql
from core_tables.projection.store import TopicRow
from core_tables.schemas.reasons import SetupError


def migrate(connection: Connection) -> list[str]:
    """Apply the migrations that are missing, in order; return their names. Needs an administrator's connection."""
    backend: Any = yoyo.get_backend(_yoyo_uri(connection))
    with as_file(files("core_tables.projection") / "migrations") as folder:
        migrations = yoyo.read_migrations(str(folder))
        with backend.lock():
            missing = backend.to_apply(migrations)
            backend.apply_migrations(missing)
            return [migration.id for migration in missing]


def register_topic(connection: Connection, row: TopicRow) -> bool:
    """Make the lanes of a topic, unless they exist. False if they do. Raises SetupError if they are another topic's."""
    with translated(), connection.transaction():
        rows: Any = connection.execute(sql("load_topics")).fetchall()
        for known in (TopicRow(*found) for found in rows):
            if known.topic_id == row.topic_id:
                return False
            if known.topic == row.topic:
                raise SetupError(
                    f"the database was filled from another topic called {row.topic} (id {known.topic_id}); "
                    "the broker's was deleted and made again: restore it, or start with an empty database",
                    "database",
                )
        connection.execute(sql("insert_topic"), tuple(row))
        connection.execute(sql("insert_lanes"), (FOLD_VERSION, row.first_lane, row.partitions))
    return True


def check_database(connection: Connection) -> None:
    """Tables, policies and triggers are as the migrations made them, and this role cannot pass them by. Raises SetupError."""
    with translated(), connection.transaction():
        problems: Any = connection.execute(sql("check_schema")).fetchall()
    if problems and problems[0][0].startswith("permission denied"):
        raise SetupError(problems[0][0], "permission")
    if problems:
        raise SetupError(
            f"the database is not as it should be: {problems[0][0]}; run `core-tables init`, or ask who changed it",
            "database",
        )


def _yoyo_uri(connection: Connection) -> str:
    """The connection's address as the migration library takes it."""
    info = conninfo_to_dict(connection.info.dsn)
    password = f":{connection.info.password}" if connection.info.password else ""
    host = info.get("host", connection.info.host)
    return (
        f"postgresql+psycopg://{connection.info.user}{password}@{host}:{connection.info.port}/{connection.info.dbname}"
    )
