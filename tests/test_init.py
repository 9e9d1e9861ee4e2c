"""`init` on a database: addresses of any shape, roles that may not, and those before it that were killed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from core_tables.cli import output
from core_tables.projection.postgres.connection import connect
from core_tables.projection.postgres.migrate import migrate, migrations
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import SetupError

from .builders import make
from .world import World

pytestmark = pytest.mark.stack

APPLIED = [
    "applied the migration 0001.work-order-tables",
    "applied the migration 0002.pending-lists",
    "applied the migration 0003.due-tenants",
]
LATER = "-- A migration of a later release.\n-- compatible: {}\n\ncomment on table os_core.lanes is 'later';\n"


@pytest.fixture
def empty(world: World) -> Iterator[str]:
    """The administrator's DSN of a database of one test's own, with nothing in it."""
    name = f"{world.name}_empty"
    world.admin.execute(f"create database {name}".encode())
    yield make_conninfo(world.settings.admin(), dbname=name)
    world.admin.execute(f"drop database {name} with (force)".encode())


def migrated(dsn: str) -> list[str]:
    with connect(dsn, name="test init") as connection:
        return migrate(connection)


def test_a_password_of_any_characters_and_other_keywords_reach_the_migrations(world: World, empty: str) -> None:
    role, password = f"{world.name}_admin", "p@ss/w:?#% +&=x"
    create = SQL("create role {} superuser login password {}").format(Identifier(role), Literal(password))
    world.admin.execute(create)
    parameters = {"password": password, "sslmode": "allow", "application_name": "a b&c", "keepalives": "1"}
    assert migrated(make_conninfo(empty, user=role, **parameters)) == APPLIED
    assert migrated(empty) == []
    give_up(world, empty, role)


def give_up(world: World, dsn: str, role: str) -> None:
    """Drop a role that owns something in a database."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"reassign owned by {role} to postgres".encode())
        connection.execute(f"drop owned by {role}".encode())
    world.admin.execute(f"drop role {role}".encode())


def test_a_database_is_reached_through_the_folder_of_its_socket(empty: str) -> None:
    with psycopg.connect(empty) as connection:
        shown = connection.execute("show unix_socket_directories").fetchall()
        (port,) = connection.execute("show port").fetchall()
    folder = str(shown[0][0]).split(",")[0].strip()
    if not Path(f"{folder}/.s.PGSQL.{port[0]}").is_socket():
        pytest.skip("the server's socket is not of this machine")
    assert migrated(make_conninfo(empty, host=folder, port=port[0])) == APPLIED


def test_a_killed_inits_lock_ends_with_its_session(empty: str) -> None:
    holder = (
        "import sys\nfrom core_tables.projection.postgres.connection import connect\n"
        "from core_tables.projection.postgres.migrate import migrating_alone\n"
        "with migrating_alone(connect(sys.argv[1], name='test holder')):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, empty], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with (
        connect(empty, name="test init", lock_timeout_ms=200) as connection,
        pytest.raises(SetupError, match="another `core-tables init`") as waited,
    ):
        migrate(connection)
    assert waited.value.subject == "database"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert migrated(empty)


def test_two_inits_at_once_do_the_work_once(empty: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(migrated, [empty, empty]))
    assert sorted(done) == [[], APPLIED]


@pytest.mark.parametrize(
    "owner", [False, True], ids=["a role that may create nothing", "an owner that may create no role"]
)
def test_a_role_that_may_not_is_named_in_one_sentence(world: World, empty: str, owner: bool) -> None:
    role = f"{world.name}_plain"
    world.create_role(role)
    if owner:
        with psycopg.connect(empty) as connection:
            connection.execute(f"alter database {connection.info.dbname} owner to {role}".encode())
    done = world.command("init", CORE_TABLES_POSTGRES_DSN=make_conninfo(empty, user=role))
    errors = done.stderr.decode()
    assert done.returncode == output.EXIT_PERMISSION, errors
    assert "administrator" in errors
    assert "Traceback" not in errors
    give_up(world, empty, role)


def test_a_database_of_the_first_migration_gets_pending_lists_with_the_rows_that_it_has(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = migrations().items()
    with monkeypatch.context() as patch:
        patch.setattr("core_tables.projection.postgres.migrate.migrations", lambda: dict([first]))
        assert migrated(empty) == APPLIED[:1]
    with psycopg.connect(empty, autocommit=True) as connection:
        for number, status in enumerate(("DRAFT", "CLARIFY", "CONFIRM", "EXECUTING", "DONE"), 1):
            connection.execute(
                "insert into os_core.work_orders_current (tenant_id, work_order_id, correlation_id, turn_id, work_order_status, "
                "last_event_id, last_reason_code, last_updated_at, requester_user_id, fields_json, missing_fields_json, "
                "asked_fields_json, resolved_fields_json, prompt_dedupe_keys_json, external_approval_pending, created_at) "
                "values ('acme', %s, %s, 1, %s, 1, 1, %s, 'ada', '{}', '[]', '{}', '{}', '[]', false, 1)",
                (status, number, status, 100 + number),
            )
        assert migrated(empty) == APPLIED[1:]
        found = connection.execute("select work_order_id, pending_at from os_core.work_orders_current order by 1")
        pending = {"DRAFT": 101, "CLARIFY": 102, "CONFIRM": 103}
        assert dict(found.fetchall()) == {**pending, "EXECUTING": None, "DONE": None}


def test_every_migration_says_whether_older_workers_may_continue_after_it() -> None:
    assert len(migrations()) == len(APPLIED)
    for name, text in migrations().items():
        assert re.search(r"^-- compatible: (yes|no)$", text, re.MULTILINE), name


@pytest.mark.parametrize("compatible", ["yes", "no"])
def test_a_database_that_is_older_or_newer_than_the_release(
    fresh: World, monkeypatch: pytest.MonkeyPatch, compatible: str
) -> None:
    """A worker of a newer release waits for `init`; one of an older release continues if the newer migration allows it."""
    ours = migrations()
    newer = {**ours, "0003.later": LATER.format(compatible)}
    with monkeypatch.context() as patch:
        patch.setattr("core_tables.projection.postgres.migrate.migrations", lambda: newer)
        with (
            pytest.raises(SetupError, match=r"does not have the migration 0003\.later; run `core-tables init`") as old,
            fresh.working(),
        ):
            pass
        assert old.value.subject == "database", "which the start waits for"
        assert fresh.init() == ["applied the migration 0003.later"]
        with fresh.working():
            assert fresh.outcome(make("FIELD_SET")) == Accepted()
    if compatible == "yes":
        with fresh.working():
            assert fresh.outcome(make("FIELD_SET")) == Accepted()
    else:
        with pytest.raises(SetupError, match=r"the migration 0003\.later of a newer release"), fresh.working():
            pass
        assert b"of a newer release" in fresh.command("rebuild").stderr
    with pytest.raises(SetupError, match=r"0003\.later, which this release does not know"):
        fresh.init()
