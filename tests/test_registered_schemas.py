"""Writer schemas are registered before anybody writes with them; a record of any other is refused."""

import json
from collections.abc import Iterator
from contextlib import closing
from copy import copy as shallow
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from core_tables.cli import output, wiring
from core_tables.cli.ledger_log import verify_against_topic
from core_tables.projection.postgres.keys import Registration
from core_tables.projection.postgres.registrations import missing_registrations
from core_tables.schemas import ledger_event_v1
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.reasons import SetupError
from core_tables.schemas.wire import DECODERS, HEADER_BYTES, MARKER, encode_event

from .builders import make
from .world import World, wait_until

stack = pytest.mark.stack

ACME = partition_of(b"acme", 12)
FIRST, LATER = "11" * 8, b"later v2".hex()
LATER_RECORD = MARKER + bytes.fromhex(LATER) + encode_event(make("FIELD_SET"))[HEADER_BYTES:]


def added(*copy: Registration, present: dict[tuple[int, str], int], applied: int, end: int) -> object:
    """What is registered for lane 0 of a ledger with two schemas."""
    found = missing_registrations([FIRST, LATER], present, {0: applied}, {0: end}, copy)
    return [(new.fingerprint, new.first_offset, since) for new, since in found]


def test_the_schemas_of_a_new_ledger_begin_with_its_logs() -> None:
    assert added(present={}, applied=0, end=0) == [(FIRST, 0, "beginning"), (LATER, 0, "beginning")]


def test_a_later_schema_begins_at_the_end_of_a_log() -> None:
    assert added(present={(0, FIRST): 0}, applied=3, end=9) == [(LATER, 9, "end")]


def test_what_is_registered_stays_as_it_is() -> None:
    assert added(present={(0, FIRST): 0, (0, LATER): 4}, applied=3, end=9) == []


def test_a_lost_database_takes_a_later_schema_from_the_beginning_of_a_log_that_holds_records() -> None:
    assert added(present={}, applied=0, end=9) == [(FIRST, 0, "beginning"), (LATER, 0, "unknown")]


def test_a_lost_database_takes_a_later_schema_from_a_copy() -> None:
    copy = Registration(0, FIRST, 0), Registration(0, LATER, 7)
    assert added(*copy, present={}, applied=0, end=9) == [(FIRST, 0, "copy"), (LATER, 7, "copy")]


def test_a_schema_that_the_copy_does_not_have_was_not_registered() -> None:
    assert added(Registration(0, FIRST, 0), present={}, applied=0, end=9) == [(FIRST, 0, "copy"), (LATER, 9, "end")]


@pytest.mark.parametrize(
    ("copied", "present", "message"),
    [
        (Registration(0, LATER, 2), {(0, FIRST): 0}, "3 records are folded"),
        (Registration(0, LATER, 5), {(0, FIRST): 0, (0, LATER): 6}, "but the database from 6 on"),
        (Registration(7, LATER, 5), {(0, FIRST): 0}, "has lane 7"),
    ],
)
def test_a_copy_that_contradicts_what_is_registered_or_folded_is_refused(
    copied: Registration, present: dict[tuple[int, str], int], message: str
) -> None:
    with pytest.raises(SetupError, match=message):
        added(copied, present=present, applied=3, end=9)


def know_later_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, this release knows a second schema; its body is that of the first."""
    monkeypatch.setitem(DECODERS, MARKER + bytes.fromhex(LATER), ledger_event_v1.decode)


def produce_around_init(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """The ids of a record of the later schema before `init` of the release that knows it, and of one after."""
    before = world.produce(b"acme", LATER_RECORD, ACME)
    know_later_schema(monkeypatch)
    where = f"for 12 lanes of {world.settings.topic}, from the end of their logs"
    assert world.init() == [f"registered the writer schema {LATER} {where}"]
    assert world.init() == [], "once is enough"
    return event_id_at(ACME, before), event_id_at(ACME, world.produce(b"acme", LATER_RECORD, ACME))


def accepted(world: World) -> list[int]:
    return [row[1] for row in world.rows("work_order_ledger")]


def differences_with_topic(world: World) -> object:
    with closing(wiring.operator(world.settings)) as connection:
        return verify_against_topic(world.settings, [connection], lambda _: None).differences


@stack
def test_a_schema_that_is_registered_while_a_worker_folds_counts_from_there_on(
    fresh: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker has read the registrations before; what it refused stays refused in every later fold."""
    with fresh.working() as running:
        fresh.produce(b"acme", LATER_RECORD, ACME)
        fresh.drain()
        before, after = produce_around_init(fresh, monkeypatch)
        fresh.drain()
        assert running.errors == []
    assert accepted(fresh) == [after]
    assert [row[0] for row in fresh.admin.execute("select field from os_core.work_order_outcomes")] == ["schema"] * 2
    assert [event.event_id for event in fresh.audit_events()[ACME]] == [before - 1, before, after]
    assert differences_with_topic(fresh) == []


@stack
def test_a_lane_that_waits_for_a_release_continues_with_a_worker_of_it(
    fresh: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.register(LATER)
    event_id = event_id_at(ACME, fresh.produce(b"acme", LATER_RECORD, ACME))
    with fresh.working() as running:
        (line,) = wait_until(lambda: running.log_lines("lane_waits_for_release"), "the lane to wait")
        assert (line["lane"], line["offset"]) == (ACME, 0)
    assert accepted(fresh) == []
    know_later_schema(monkeypatch)
    with fresh.working():
        fresh.drain()
    assert accepted(fresh) == [event_id]
    assert [event.event_id for event in fresh.audit_events()[ACME]] == [event_id]


@pytest.fixture
def lost(fresh: World) -> Iterator[World]:
    """The same topics, and an empty database."""
    name = f"{fresh.name}_lost"
    fresh.admin.execute(f"create database {name}".encode())
    dsn = make_conninfo(fresh.settings.admin(), dbname=name)
    world = shallow(fresh)
    world.settings = fresh.settings.model_copy(update={"postgres_dsn": dsn, "redis_url": "none", "group_id": name})
    world.reconnect()
    yield world
    world.close()


def folded(world: World) -> list[int]:
    """The accepted records, once everything is folded."""
    with world.working(audit=False):
        ends = world.log_ends()
        wait_until(lambda: {lane: at for lane, (at, _) in world.positions().items()} == ends, "the lanes to be folded")
    return accepted(world)


@stack
def test_a_lost_database_decides_as_before_with_a_copy_of_the_registrations(
    fresh: World, lost: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, after = produce_around_init(fresh, monkeypatch)
    shown = fresh.command("schemas", COLUMNS="200")
    assert LATER in shown.stdout.decode(), shown.stderr
    copied = fresh.command("schemas", "--json")
    assert copied.returncode == output.EXIT_OK, copied.stderr
    (file := tmp_path / "schemas.jsonl").write_bytes(copied.stdout)
    done = lost.command("init", "--schemas", str(file))
    assert done.returncode == output.EXIT_OK, done.stderr
    assert f"registered the writer schema {LATER} for 12 lanes" in " ".join(done.stdout.decode().split())
    assert folded(lost) == [after]
    assert differences_with_topic(lost) == []

    other = [json.loads(line) for line in copied.stdout.splitlines()]
    file.write_text("\n".join(json.dumps({**line, "first_offset": line["first_offset"] + 1}) for line in other))
    done = lost.command("init", "--schemas", str(file))
    assert done.returncode == output.EXIT_DATABASE
    assert b"the copy registers" in done.stderr
    file.write_text('{"topic": "t"}\n')
    done = lost.command("init", "--schemas", str(file))
    assert done.returncode == output.EXIT_USAGE
    assert b"line 1" in done.stderr


@stack
def test_a_lost_database_without_a_copy_accepts_what_was_written_before_and_says_so(
    fresh: World, lost: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = produce_around_init(fresh, monkeypatch)
    assert any("no copy says since when it was registered" in line for line in lost.init())
    assert folded(lost) == [before, after]


@stack
def test_nobody_begins_before_the_schema_of_the_release_is_registered(fresh: World) -> None:
    fresh.admin.execute("alter table os_core.registered_schemas disable trigger append_only")
    fresh.admin.execute("delete from os_core.registered_schemas")
    fresh.admin.execute("alter table os_core.registered_schemas enable always trigger append_only")
    with pytest.raises(SetupError, match="is not registered for lane 0; run `core-tables init`"), fresh.working():
        pass
    with pytest.raises(SetupError, match="is not registered for lane 0"):
        _ = fresh.ledger
    with pytest.raises(psycopg.Error, match="APPEND_ONLY"):
        fresh.admin.execute("truncate os_core.registered_schemas")
