"""How workers start and end: what they need may come later, and what they leave behind misleads nobody."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog
from confluent_kafka import Consumer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from core_tables.cli import processes
from core_tables.cli.probe_client import Answered, ask
from core_tables.cli.starting import started
from core_tables.consumer.sessions import DENIED_S, Session
from core_tables.projection.fold.pending import PendingQuery
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import CoreTablesError, SetupError, UnavailableError
from core_tables.settings.forms import HttpAddress

from .builders import START, make
from .faults.proxy import CommitCutter
from .world import World, free_ports, other_settings, wait_until

LOG = structlog.wrap_logger(structlog.ReturnLogger())


def failing(times: int, error: CoreTablesError) -> Callable[[], int]:
    """A start that fails that number of times, and then returns how often it was tried."""
    tries: list[int] = []

    def start() -> int:
        tries.append(1)
        if len(tries) <= times:
            raise error
        return len(tries)

    return start


@pytest.mark.parametrize("error", [UnavailableError("kafka", "planted"), SetupError("planted", "database")])
def test_what_may_still_come_is_waited_for(error: CoreTablesError) -> None:
    assert started(failing(1, error), 60, LOG) == 2
    with pytest.raises(CoreTablesError, match="planted"):
        started(failing(10_000, error), 0, LOG)


@pytest.mark.parametrize("subject", ["permission", "topic", "machine"])
def test_what_waiting_does_not_change_ends_the_start_at_once(subject: Any) -> None:
    with pytest.raises(SetupError, match="planted"):
        started(failing(1, SetupError("planted", subject)), 60, LOG)


def test_a_refused_password_is_waited_for_by_a_session_that_was_open_before() -> None:
    now = 0.0
    denied = SetupError("the password is wrong", "permission")
    answers: list[Any] = [denied]

    def open_store() -> Any:
        if isinstance(answers[0], SetupError):
            raise answers[0]
        return answers[0]

    class Store:
        class connection:  # noqa: N801
            close = staticmethod(lambda: None)

    session: Any = Session(open_store, lambda: now)
    with pytest.raises(SetupError):
        session.store()
    answers[0] = Store
    assert session.store() is Store
    session.close()
    answers[0] = denied
    with pytest.raises(UnavailableError, match="the password is wrong"):
        session.store()
    now = DENIED_S - 1
    with pytest.raises(UnavailableError):
        session.store()
    now = DENIED_S
    with pytest.raises(SetupError):
        session.store()
    answers[0] = Store
    assert session.store() is Store


def test_of_several_databases_one_that_lets_us_wait_for_nothing_is_not_asked_for_twice_as_long() -> None:
    now, asked = 0.0, 0

    def open_store() -> Any:
        nonlocal now, asked
        now, asked = now + 5, asked + 1
        raise UnavailableError("postgres", "no answer")

    session = Session(open_store, lambda: now, rests=True)
    for moment in (0.0, 5.1, 14.9, 15.0, 20.1):
        now = max(now, moment)
        with pytest.raises(UnavailableError, match="no answer"):
            session.store()
    assert asked == 2
    alone = Session(open_store, lambda: now)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="no answer"):
            alone.store()
    assert asked == 5


def test_health_files_of_an_earlier_command_with_more_workers_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(processes.HEALTH_FILE, str(tmp_path / "health"))
    for name in ("health.1", "health.2", "health.3", "health.new", "other.3"):
        (tmp_path / name).touch()
    processes._remove_old_health_files(2)
    assert sorted(os.listdir(tmp_path)) == ["health.1", "health.2", "health.new", "other.3"]


@pytest.mark.stack
def test_a_worker_that_is_started_before_its_servers_and_init_folds_without_a_restart(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile it is alive and says what it waits for."""
    http = HttpAddress("127.0.0.1", free_ports(3))
    monkeypatch.setenv("CORE_TABLES_HTTP", str(http))
    later = World(world.stack, f"{world.name}later")
    postgres, kafka = conninfo_to_dict(later.settings.worker()), later.settings.kafka_servers().rpartition(":")
    direct = later.settings.worker()
    monkeypatch.setenv("CORE_TABLES_WORKER_DSN", make_conninfo(direct, host="127.0.0.1", port=http.port + 1))
    program = other_settings(later, bootstrap_servers=f"127.0.0.1:{http.port + 2}")

    def waits_for(what: str) -> bool:
        alive, ready = ask(http, "/healthz"), ask(http, "/readyz")
        if alive is None or ready is None:
            return False
        assert alive == Answered(200, {"alive": True, "problems": []})
        assert ready.status == 503
        (problem,) = ready.body["problems"]
        assert problem["state"] == "starting"
        return what in problem["cause"]

    with contextlib.ExitStack() as open_, (tmp_path / "log").open("wb") as lines:
        process = program.worker_process(log=lines)
        open_.callback(process.wait, 60)
        open_.callback(process.terminate)
        wait_until(lambda: waits_for("Postgres"), "the worker to wait for Postgres")
        there = CommitCutter(str(postgres["host"]), int(postgres["port"] or 0), http.port + 1)
        open_.callback(there.close)
        wait_until(lambda: waits_for("core-tables init"), "the worker to wait for its tables")
        later.init()
        wait_until(lambda: waits_for("Kafka"), "the worker to wait for Kafka")
        open_.callback(CommitCutter(kafka[0], int(kafka[2]), http.port + 2).close)
        wait_until(later.answers, "the broker to lead the new topic")
        assert later.outcome(make("WORK_ORDER_CREATED")) == Accepted()
        wait_until(lambda: (found := ask(http, "/readyz")) and found.status == 200, "the worker to be ready")
    program.close()
    later.close()


@pytest.mark.stack
def test_a_worker_that_ends_takes_its_health_file_along(world: World, tmp_path: Path) -> None:
    health = tmp_path / "health"
    with world.working(health_file=health):
        wait_until(health.exists, "the worker to write its file")
    assert not health.exists()


@pytest.mark.stack
def test_workers_of_the_new_group_protocol_share_their_lanes_and_hand_them_over(fresh: World) -> None:
    fresh.settings = fresh.settings.model_copy(update={"kafka": {"group.protocol": "consumer"}})
    tenants = [f"kip-{number}" for number in range(24)]
    with fresh.working() as second:
        with fresh.working() as first:
            wait_until(lambda: len(first.worker.lanes) == len(second.worker.lanes) == 6, "the lanes to be shared")
            assert not first.worker.lanes.keys() & second.worker.lanes.keys()
            for tenant in tenants:
                assert fresh.outcome(make("WORK_ORDER_CREATED", tenant_id=tenant)) == Accepted()
        wait_until(lambda: len(second.worker.lanes) == 12, "the lanes to be handed over")
        for tenant in tenants:
            assert fresh.outcome(make("FIELD_SET", tenant_id=tenant)) == Accepted()
        fresh.drain()
    assert first.errors == second.errors == []


@pytest.mark.stack
def test_a_cache_that_does_not_answer_is_reported_once_and_by_status(fresh: World) -> None:
    usual = fresh.settings.redis_url
    fresh.settings = fresh.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1"})
    with fresh.working() as running:
        assert fresh.outcome(make("WORK_ORDER_CREATED")) == Accepted()
        wait_until(lambda: running.log_lines("cache_failed"), "the failing cache to be logged")
        assert len(running.log_lines("cache_failed")) == 1
        assert b"the cache does not answer" in fresh.command("status").stdout
    fresh.settings = fresh.settings.model_copy(update={"redis_url": usual})
    assert b"cache" not in fresh.command("status").stdout


@pytest.mark.stack
def test_what_is_not_well_formed_in_the_cache_is_a_miss(fresh: World) -> None:
    query = PendingQuery("acme", "ada", START)
    with fresh.working():
        assert fresh.outcome(make("WORK_ORDER_CREATED")) == Accepted()
        wait_until(lambda: fresh.reads.pending(query).from_cache, "the list to be cached")
    right = fresh.reads.pending(query)._replace(from_cache=False)
    client: Any = redis.Redis.from_url(str(fresh.settings.redis_url))
    topic, *_ = fresh.reads.topics()
    label = f"ct:2:{{{topic.topic_id}.{fresh.reads.lane_of_tenant('acme')}}}:at".encode()
    (name,) = client.scan_iter(label.removesuffix(b"at").decode().replace("{", "[{]") + "*:DRAFT:*ada")
    ((entry, _), (marker, _)) = client.zrange(name, 0, -1, withscores=True)
    for value in (b"\xff", b"[]", b'{"work_order_id": 7}', b"null"):
        client.delete(name)
        client.zadd(name, {entry.partition(b"\0")[0] + b"\0" + value: 0, marker: 0})
        assert fresh.reads.pending(query) == right
    client.zrem(name, marker)
    assert fresh.reads.pending(query) == right
    client.set(name, "no list")
    assert fresh.reads.pending(query) == right
    for value in (b"", b"x:y", b"0.ab:nonsense", b"\xff:1"):
        client.set(label, value)
        assert fresh.reads.pending(query) == right


@pytest.mark.stack
def test_a_stranger_in_the_consumer_group_is_named_by_status_with_the_lanes_that_no_worker_has(fresh: World) -> None:
    servers = {"bootstrap.servers": fresh.stack.bootstrap_servers, "group.id": fresh.settings.group_id}
    strategy = {"partition.assignment.strategy": "cooperative-sticky", "client.id": "somebody-else"}
    stranger = Consumer({**servers, **strategy})

    def shown() -> str:
        stranger.poll(0.1)
        return " ".join(fresh.command("status").stdout.decode().split())

    assert "no worker runs" in shown()
    with fresh.working() as running:
        wait_until(lambda: len(running.worker.lanes) == 12, "the worker to have every lane")
        assert "somebody-else" not in shown()
        assert "belong to no worker" not in shown()
        stranger.subscribe([fresh.settings.topic])
        wait_until(
            lambda: stranger.poll(0.1) or len(running.worker.lanes) == 6, "the stranger to take half of the lanes"
        )
        wait_until(
            lambda: "somebody-else at" in (text := shown()) and "is no worker" in text, "status to name the stranger"
        )
        stranger.close()
