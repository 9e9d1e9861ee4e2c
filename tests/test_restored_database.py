"""`init` on databases that it did not make: restored into a server without our roles, or run by no superuser."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from core_tables.cli import output
from core_tables.deploy import stack as local_stack
from core_tables.deploy.parts import Postgres, password
from core_tables.deploy.stack import StackAddresses
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import CoreTablesError, SetupError

from .builders import make
from .leftovers import note
from .oracle import check_everything
from .world import World, new_world, other_settings

pytestmark = pytest.mark.stack

ROLES = (
    "core_tables_worker",
    "core_tables_reader",
    "core_tables_operator",
    "core_tables_scheduler",
    "core_tables_owner",
)
GIVEN = "a password"


class Server:
    """A Postgres of its own, in which nobody ever ran `init`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        local_stack.start_part(folder, "postgres", print)
        address = next(part.address for part in local_stack.status(folder) if part.name == "postgres")
        self.dsn = f"postgresql://postgres:{password(folder)}@{address}/postgres"

    def run(self, statement: str, *names: str) -> None:
        """Run a statement with identifiers, as the superuser."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(SQL(statement).format(*map(Identifier, names)))

    def forget(self) -> None:
        """Drop every database that a test made, and every role of ours."""
        with psycopg.connect(self.dsn) as connection:
            databases = connection.execute(
                "select datname from pg_database where datname !~ '^(postgres|template)'"
            ).fetchall()
        for (name,) in databases:
            self.run("drop database {} with (force)", name)
        for role in ROLES:
            self.run("drop role if exists {}", role)

    def give_passwords(self) -> None:
        """As an administrator would, after `init` has created the roles."""
        for role in ROLES[:-1]:
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                connection.execute(SQL("alter role {} password {}").format(Identifier(role), Literal(GIVEN)))

    def program(self, name: str) -> str:
        """A program of the server's own version."""
        return str(Path(Postgres().prepare(self.folder / "postgres", 0, print).command[0]).with_name(name))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = note(tmp_path_factory.mktemp("restored"))
    try:
        yield Server(folder)
    finally:
        local_stack.down(folder, print, wipe=True)


def in_database(world: World, dsn: str) -> World:
    """The same ledger, with its tables in another database, where each role has the same password."""
    roles = {
        name: make_conninfo(dsn, user=f"core_tables_{name}", password=GIVEN)
        for name in ("worker", "reader", "operator")
    }
    return other_settings(world, postgres_dsn=dsn, **{f"{name}_dsn": value for name, value in roles.items()})


def dump_and_restore(server: Server, source: str, target: str) -> str:
    """pg_dump and pg_restore; what pg_restore complained about."""
    server.run("create database {}", str(conninfo_to_dict(target)["dbname"]))
    secret = {**os.environ, "PGPASSWORD": str(conninfo_to_dict(source)["password"])}
    dump = subprocess.run(
        [server.program("pg_dump"), "-Fc", "-d", source], env=secret, check=True, capture_output=True, cwd="/"
    )
    restore = [server.program("pg_restore"), "-d", target]
    return subprocess.run(restore, input=dump.stdout, check=False, capture_output=True, cwd="/").stderr.decode()


def test_a_copy_that_was_restored_without_its_roles_is_put_right_and_goes_on(
    stack: StackAddresses, server: Server
) -> None:
    world = new_world(stack)
    with world.working():
        for kind in ("WORK_ORDER_CREATED", "FIELD_SET", "FIELD_SET"):
            assert world.outcome(make(kind)) == Accepted()
        world.drain()
    server.forget()
    target = make_conninfo(server.dsn, dbname=world.name)
    complaints = dump_and_restore(server, world.settings.admin(), target)
    assert 'role "core_tables_worker" does not exist' in complaints
    restored = in_database(world, target)
    done = restored.init()
    for part in ("the owner of the schema os_core", "the policy reader_sees_one_tenant of os_core.work_order_ledger"):
        assert f"made {part}" in done
    assert restored.init() == []
    server.give_passwords()
    with restored.working() as running:
        assert restored.outcome(make("FIELD_SET", tenant_id="other")) == Accepted()
        assert restored.outcome(make("FIELD_SET", turn_id=4)) == Accepted()
        restored.drain()
        check_everything(restored, 5)
    assert running.errors == []
    with pytest.raises(psycopg.Error, match="APPEND_ONLY"):
        restored.admin.execute("delete from os_core.work_order_ledger")
    assert restored.reads.current("other", "order-1") is not None
    with psycopg.connect(restored.settings.reader()) as connection:
        assert connection.execute("select count(*) from os_core.work_order_ledger").fetchone() == (0,)
    restored.close()


def test_an_administrator_who_is_no_superuser_can_set_up_a_database_of_his_own(
    stack: StackAddresses, server: Server
) -> None:
    server.forget()
    managed = World(replace(stack, postgres_dsn=server.dsn), "managed")
    server.run("create role boss login createrole")
    server.run("alter database {} owner to boss", managed.name)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(SQL("alter role boss password {}").format(Literal(GIVEN)))
    dsn = make_conninfo(server.dsn, dbname=managed.name, user="boss", password=GIVEN)
    boss = in_database(managed, dsn)
    assert "applied the migration 0001.work-order-tables" in boss.init()
    with psycopg.connect(dsn, autocommit=True) as connection:
        for role in ROLES[:-1]:
            connection.execute(SQL("alter role {} password {}").format(Identifier(role), Literal(GIVEN)))
        connection.execute("drop policy operator_sees_all on os_core.work_order_leases")
    assert boss.init() == ["made the policy operator_sees_all of os_core.work_order_leases"]
    with boss.working() as running:
        assert boss.outcome(make("FIELD_SET")) == Accepted()
        boss.drain()
    assert running.errors == []
    assert boss.verify().differences == []
    boss.close()

    server.run("create role stranger login createrole password 'a password'")
    server.run("create database elsewhere owner stranger")
    elsewhere = make_conninfo(server.dsn, dbname="elsewhere", user="stranger", password=GIVEN)
    done = managed.command("init", CORE_TABLES_POSTGRES_DSN=elsewhere)
    assert done.returncode == output.EXIT_PERMISSION
    assert b"the role stranger may not set up this database" in done.stderr


@pytest.fixture
def migrated(stack: StackAddresses) -> Iterator[World]:
    made = new_world(stack)
    yield made
    made.close()


REFUSING = "create or replace function os_core.refuse_change() returns trigger language plpgsql as"
# By part, what somebody did to it; in each text, {} is the schema.
DAMAGE = {
    "the policy reader_sees_one_tenant of {}.work_order_ledger": (
        "drop policy reader_sees_one_tenant on {}.work_order_ledger"
    ),
    "the policy reader_sees_one_tenant of {}.work_order_leases": (
        "alter policy reader_sees_one_tenant on {}.work_order_leases using (true)"
    ),
    "the grant of INSERT on the table {}.work_order_ledger to core_tables_worker": (
        "revoke insert on {}.work_order_ledger from core_tables_worker"
    ),
    "the owner of {}.lanes": "alter table {}.lanes owner to postgres",
    "the index {}.one_active_lease_per_work_order": "drop index {}.one_active_lease_per_work_order",
    "the trigger append_only of {}.work_order_ledger": "alter table {}.work_order_ledger disable trigger append_only",
    "the trigger append_only of {}.work_order_outcomes": "drop trigger append_only on {}.work_order_outcomes",
    "the row-level security of {}.work_order_outcomes": (
        "alter table {}.work_order_outcomes no force row level security"
    ),
    "the function {}.refuse_change()": f"{REFUSING} $$ begin return new; end $$",
    "the constraint a_released_lease_says_when of {}.work_order_leases": (
        "alter table {}.work_order_leases drop constraint a_released_lease_says_when"
    ),
}


def test_what_somebody_changed_is_made_as_the_migrations_make_it(migrated: World) -> None:
    for statement in DAMAGE.values():
        migrated.admin.execute(statement.replace("{}", "os_core").encode())
    assert {f"made {part}".replace("{}", "os_core") for part in DAMAGE} <= set(migrated.init())
    assert migrated.init() == []
    with migrated.working():
        assert migrated.outcome(make("FIELD_SET")) == Accepted()


@pytest.mark.parametrize(
    ("statement", "part"),
    [
        ("drop table os_core.migrations", "the table os_core.migrations is missing"),
        ("drop table os_core.work_order_leases", "the table os_core.work_order_leases is missing"),
        ("alter table os_core.lanes drop column epoch", "the column os_core.lanes.epoch is missing"),
        (
            "alter table os_core.lanes alter column epoch type integer",
            "the column os_core.lanes.epoch is not as the migrations make it",
        ),
        (
            "create policy open on os_core.work_order_ledger for select to public using (true)",
            "the policy open of os_core.work_order_ledger was added",
        ),
        (
            "grant update on os_core.work_order_ledger to core_tables_reader",
            "the grant of UPDATE on the table os_core.work_order_ledger to core_tables_reader was added",
        ),
    ],
)
def test_what_cannot_be_made_is_named_and_nothing_is_changed(migrated: World, statement: str, part: str) -> None:
    migrated.admin.execute(statement.encode())
    migrated.admin.execute("revoke insert on os_core.work_order_ledger from core_tables_worker")
    with pytest.raises(CoreTablesError, match=part):
        migrated.init()
    granted = migrated.admin.execute(
        "select has_table_privilege('core_tables_worker', 'os_core.work_order_ledger', 'insert')"
    )
    assert granted.fetchone() == (False,)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("delete from os_core.work_order_topics", r"lanes_pkey.*Key \(lane\)=\(0\) already exists"),
        ("delete from os_core.lanes where lane = 1", r"no row for the lanes \[1\]"),
        ("delete from os_core.migrations", r'schema "os_core" already exists'),
        ("delete from os_core.migrations where name like '0002%'", r'column "pending_at" .* already exists'),
        (
            "alter table os_core.lanes drop constraint lanes_pkey; insert into os_core.lanes select * from os_core.lanes",
            'could not create unique index "lanes_pkey"',
        ),
    ],
    ids=["without its topics", "without a lane", "without its migrations", "without one of them", "restored twice"],
)
def test_a_restore_that_was_done_in_part_or_twice_is_named_with_what_to_do(
    migrated: World, statement: str, what: str
) -> None:
    migrated.admin.execute(statement.encode())
    with pytest.raises(SetupError, match=rf"only a part of a ledger \(.*{what}.*restore the whole copy") as named:
        migrated.init()
    assert named.value.subject == "database"
