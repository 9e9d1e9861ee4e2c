"""Passwords that change while programs run: each connection takes the one that its file holds."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from core_tables.projection.fold.pending import PendingQuery
from core_tables.schemas.outcomes import Accepted

from .builders import START, make
from .world import World, other_settings, wait_until

pytestmark = pytest.mark.stack


def test_a_worker_whose_password_was_changed_continues_with_that_of_its_file(world: World, tmp_path: Path) -> None:
    role, file = f"{world.name}_rotated", tmp_path / "dsn"
    name = Identifier(role)
    world.admin.execute(SQL("create role {} login password 'first' in role core_tables_worker").format(name))
    file.write_text(make_conninfo(world.settings.admin(), user=role, password="first"), "utf-8")
    program = other_settings(world, worker_dsn_file=file)
    with program.working() as running:
        assert world.outcome(make("FIELD_SET")) == Accepted()
        world.admin.execute(SQL("alter role {} password 'second'").format(name))
        ended = "select pg_terminate_backend(pid) from pg_stat_activity where usename = {}"
        world.admin.execute(SQL(ended).format(Literal(role)))
        waiting = world.append(make("FIELD_SET"))
        refused = wait_until(
            lambda: [line for line in running.log_lines("lane_reopens") if "password" in line["cause"]],
            "the worker to be refused",
        )
        assert refused
        file.write_text(make_conninfo(world.settings.admin(), user=role, password="second"), "utf-8")
        assert [receipt.outcome(60) for receipt in waiting] == [Accepted()]
    assert running.errors == []
    assert running.log_lines("lane_stopped") == []
    with psycopg.connect(world.settings.admin(), autocommit=True) as connection:
        connection.execute(SQL("drop role {}").format(name))


def test_a_cache_whose_password_was_changed_is_used_again_with_that_of_its_file(world: World, tmp_path: Path) -> None:
    user, file, address = f"{world.name}_cache", tmp_path / "url", urlsplit(str(world.settings.redis_url))
    admin: Any = redis.Redis.from_url(str(world.settings.redis_url))
    place = address.netloc.rpartition("@")[2]

    def give(password: str) -> None:
        admin.execute_command("ACL", "SETUSER", user, "on", "resetpass", f">{password}", "~*", "+@all")

    give("first")
    file.write_text(f"redis://{user}:first@{place}/0", "utf-8")
    program = other_settings(world, redis_url=None, redis_url_file=file)
    query = PendingQuery("acme", "ada", START)
    with program.working():
        assert world.outcome(make("WORK_ORDER_CREATED", work_order_id="cached")) == Accepted()
        wait_until(lambda: program.reads.pending(query).from_cache, "the list to be cached")
        give("second")
        admin.execute_command("CLIENT", "KILL", "USER", user)
        wait_until(lambda: not program.reads.pending(query).from_cache, "the cache to refuse the old password")
        file.write_text("no address", "utf-8")
        assert world.outcome(make("FIELD_SET", work_order_id="cached")) == Accepted()
        file.write_text(f"redis://{user}:second@{place}/0", "utf-8")
        wait_until(lambda: program.reads.pending(query).from_cache, "the cache to answer again")
    program.close()
    admin.execute_command("ACL", "DELUSER", user)
