"""What a worker answers to probes: each row of the table in consumer/probes.py."""

import contextlib
import http.client
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]

from core_tables.cli.probe_client import ProcessProbes, ask
from core_tables.consumer.audit_emitter import AuditEmitter
from core_tables.consumer.audit_queue import AuditQueue
from core_tables.consumer.http_server import HttpPage, HttpServer
from core_tables.consumer.lane import Lane, Trouble
from core_tables.consumer.probes import HALTING, WorkerProbes, probe_pages
from core_tables.consumer.worker_metrics import WorkerCollector
from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.deploy.stack import StackAddresses
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import (
    CoreTablesError,
    LaneStoppedError,
    SetupError,
    StopCause,
    UnknownSchemaError,
    stop_cause,
)
from core_tables.settings.forms import HttpAddress, http_address

from .builders import make
from .fakes import queue_of
from .metric_tables import samples, scrape
from .world import World, free_ports, new_world, other_settings, wait_until

LIMITS = WorkerSettings(stands_after_s=90.0, waits_after_s=30.0)


def worker(*lanes: Lane, **changes: Any) -> Any:
    """A worker in its group, at second 0, with these lanes."""
    lifecycle = {"outside": None, "joined": True, "topics_unknown": None, **changes}
    return SimpleNamespace(
        lanes={lane.partition: lane for lane in lanes},
        turned_at=changes.get("turned_at", 0.0),
        pause=changes.get("pause"),
        audit=changes.get("audit"),
        lifecycle=SimpleNamespace(**lifecycle),
    )


def answers(followed: Any, at: float, *, audit_alive: bool = True) -> tuple[bool, bool]:
    """Whether a worker is alive, and whether it is ready, at a second of its clock."""
    probes = WorkerProbes(LIMITS, lambda: at)
    probes.follow(followed, SimpleNamespace(alive=lambda: audit_alive))
    return probes.alive().ok, probes.ready().ok


@pytest.mark.parametrize(
    "changes",
    [
        {"outside": Trouble("lost", 0.0)},
        {"topics_unknown": Trouble("Kafka does not answer", 0.0)},
        {"pause": Trouble("the audit queue is full", 0.0)},
        {"lane": Lane(0, 0, since=0.0)},
        {"lane": Lane(0, 0, since=0.0, doubt=Trouble("Postgres does not answer", 0.0))},
        {"lane": Lane(0, 0, since=20.0, doubt=Trouble("Postgres does not answer", 0.0), opened=True)},
    ],
    ids=["lanes lost", "topics unknown", "fetching paused", "not opened", "reopens", "opens and fails again and again"],
)
def test_what_should_pass_makes_a_worker_not_ready_when_it_lasts(changes: dict[str, Any]) -> None:
    waiting = worker(*([changes.pop("lane")] if "lane" in changes else []), **changes, turned_at=29.0)
    assert answers(waiting, at=29.0) == (True, True)
    assert answers(waiting, at=31.0) == (True, False)


def test_an_audit_that_fails_makes_a_worker_not_ready_when_it_lasts_and_has_something_to_publish() -> None:
    queue, quiet = queue_of(0), AuditQueue(10)
    quiet.open(0, 0, 0)
    for each in (queue, quiet):
        (lane,) = each.lanes()
        lane.trouble = Trouble("the transaction timed out", 0.0)
        each.sign()
    for at, ready in ((29.0, True), (31.0, False)):
        queue._clock = quiet._clock = lambda at=at: at  # type: ignore[misc]
        queue.sign()
        quiet.sign()
        assert answers(worker(audit=queue, turned_at=at), at) == (True, ready)
        assert answers(worker(audit=quiet, turned_at=at), at) == (True, True)


def test_a_fold_or_an_audit_that_makes_no_turns_is_not_alive() -> None:
    assert answers(worker(turned_at=0.0), at=89.0) == (True, True)
    assert answers(worker(turned_at=0.0), at=91.0) == (False, False)
    queue = AuditQueue(10, lambda: 0.0)
    queue._clock = lambda: 91.0
    assert answers(worker(audit=queue, turned_at=91.0), at=91.0) == (False, False)
    queue.sign()
    assert answers(worker(audit=queue, turned_at=91.0), at=91.0) == (True, True)
    assert answers(worker(audit=queue, turned_at=91.0), at=91.0, audit_alive=False) == (False, False)


def test_a_worker_that_has_not_joined_its_group_is_alive_and_not_ready_yet() -> None:
    outside = worker(outside=Trouble("it has not joined", 0.0), joined=False)
    assert answers(outside, at=0.0) == (True, False)
    assert answers(worker(), at=0.0) == (True, True), "in its group, without a lane"


ERRORS: dict[StopCause, CoreTablesError] = {
    "schema": UnknownSchemaError("planted"),
    **{cause: SetupError("planted", cause) for cause in ("topic", "database", "permission", "machine")},
    **{cause: LaneStoppedError("planted", cause) for cause in ("record", "defect", "records_lost", "audit_lost")},
}


@pytest.mark.parametrize("cause", get_args(StopCause))
def test_a_stop_halts_a_rollout_if_another_release_may_remove_its_cause(cause: StopCause) -> None:
    error = ERRORS[cause]
    assert stop_cause(error) == cause
    stopped = worker(Lane(0, 0, stopped=error, since=0.0))
    ready = cause in ("record", "records_lost", "audit_lost", "topic")
    assert answers(stopped, at=0.0) == (True, ready)
    assert ready == (cause not in HALTING)


@contextlib.contextmanager
def served(pages: Any) -> Iterator[HttpAddress]:
    server = HttpServer("127.0.0.1", 0, pages)
    try:
        yield HttpAddress("127.0.0.1", server.port)
    finally:
        server.close()


def status(address: HttpAddress, method: str, path: str) -> int:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_the_server_has_its_pages_and_nothing_else() -> None:
    def broken() -> HttpPage:
        raise ZeroDivisionError("a value")

    with served({"/page": lambda: HttpPage(200, "text/plain", b"text"), "/broken": broken}) as address:
        assert status(address, "GET", "/page?of=something") == status(address, "HEAD", "/page") == 200
        assert status(address, "GET", "/other") == 404
        assert status(address, "POST", "/page") == 501
        assert status(address, "GET", "/broken") == 500


def test_a_server_answers_though_the_machine_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    with served({"/page": lambda: HttpPage(200, "text/plain", b"text")}) as address:
        monkeypatch.setattr("threading.Thread.start", refuse)
        assert status(address, "GET", "/page") == 200
        monkeypatch.undo()


def test_an_address_that_is_in_use_is_named() -> None:
    with served({}) as address, pytest.raises(SetupError, match=f"CORE_TABLES_HTTP: 127.0.0.1:{address.port}"):
        HttpServer(address.host, address.port, {})


@pytest.mark.parametrize("text", ["0.0.0.0:9464", "[::1]:9464", "worker:1"])
def test_an_address_is_a_host_and_a_port(text: str) -> None:
    assert str(http_address(text)) == text


@pytest.mark.parametrize("text", ["9464", ":9464", "host", "host:", "host:http", "host:65536", "::1:9464"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host:port was expected"):
        http_address(text)


def test_several_processes_are_alive_and_ready_if_each_of_those_that_run_is(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = WorkerProbes(LIMITS, lambda: 0.0), WorkerProbes(LIMITS, lambda: 0.0)
    good.follow(worker(), None)
    nobody = HttpAddress("127.0.0.1", free_ports())
    with served(probe_pages(good)) as first, served(probe_pages(bad)) as second:
        running = [first]
        probes = ProcessProbes(lambda: running)
        with served(probes.pages()) as parent:
            assert status(parent, "GET", "/readyz") == 200
            running.append(second)
            assert status(parent, "GET", "/readyz") == 503
            assert status(parent, "GET", "/healthz") == 200
            running[:] = [first, nobody]
            assert status(parent, "GET", "/healthz") == 200, "it may be starting"
            monkeypatch.setattr("core_tables.cli.probe_client.STARTS_S", -1.0)
            assert status(parent, "GET", "/healthz") == 503
            running.remove(nobody)  # it has ended, and the others continue
            assert status(parent, "GET", "/readyz") == 200


@pytest.fixture(scope="module")
def single(stack: StackAddresses) -> Iterator[World]:
    """A world of one lane."""
    made = new_world(stack, partitions=1)
    yield made
    made.close()


@pytest.mark.stack
def test_a_client_setting_that_only_the_audit_cannot_use_stops_lanes_and_halts_a_rollout(single: World) -> None:
    wrong = other_settings(single, kafka={"socket.timeout.ms": "60000"})
    with wrong.working() as running:
        wait_until(lambda: not running.probes.ready().ok and running.log_lines("lane_stopped"), "the lane to stop")
        (problem,) = running.probes.ready().body["problems"]
        collector = WorkerCollector()
        collector.follow(running.worker, dict, wrong.settings.group_id)
        (stopped,) = samples(scrape(collector), "core_tables_lane_stopped_info")
        assert stopped.labels == {"lane": "0", "cause": "machine"}
        assert (problem["state"], problem["lane"]) == ("stopped", 0)
        assert "`socket.timeout.ms` must be set" in problem["cause"]
        assert "correct the settings" in problem["cause"]
        assert running.probes.alive().ok
    wrong.close()


@pytest.mark.stack
def test_an_audit_topic_that_takes_nothing_pauses_a_worker_until_it_does(single: World) -> None:
    admin = single.kafka_admin()

    def takes(most_bytes: str) -> None:
        entry = ConfigEntry("max.message.bytes", most_bytes, incremental_operation=AlterConfigOpType.SET)
        topic = ConfigResource(ConfigResource.Type.TOPIC, single.settings.audit_topic, incremental_configs=[entry])
        (changed,) = admin.incremental_alter_configs([topic]).values()
        changed.result(30)

    with single.working(waits_after_s=0.5, audit_queue_size=10, audit_patience_s=0.1) as running:
        wait_until(lambda: running.probes.ready().ok, "the worker to be ready")
        takes("100")  # more than a transaction's marker: without one, the broker never ends the transaction
        receipts = single.append(*(make("FIELD_SET") for _ in range(40)))

        def states() -> set[str]:
            return {problem["state"] for problem in running.probes.ready().body["problems"]}

        wait_until(lambda: "paused" in states(), "fetching to be paused", 60)
        assert running.probes.alive().ok
        takes("1048588")
        assert {receipt.outcome(60) for receipt in receipts} == {Accepted()}
        wait_until(lambda: running.probes.ready().ok, "the worker to be ready again", 60)


@pytest.mark.stack
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_is_ready_with_and_without_a_lane_and_not_alive_without_its_audit_thread(
    single: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []
    real = AuditEmitter.step

    def step(emitter: AuditEmitter, wait_s: float = 0.0, most: int | None = None) -> int:
        if ended:
            raise SystemExit  # as a thread ends that the machine has no memory for
        return real(emitter, wait_s, most)

    monkeypatch.setattr(AuditEmitter, "step", step)
    with single.working() as first, single.working() as second, served(probe_pages(first.probes)) as address:
        wait_until(lambda: first.probes.ready().ok and second.probes.ready().ok, "both to be ready")
        assert sorted(len(each.worker.lanes) for each in (first, second)) == [0, 1]
        (lane,) = [lane for each in (first, second) for lane in each.probes.ready().body["lanes"]]
        assert (lane["lane"], lane["state"], lane["cause"]) == (0, "folding", None)
        ended.append(True)
        wait_until(lambda: status(address, "GET", "/healthz") == 503, "the dead thread to be noticed")
        answer = ask(address, "/readyz")
        assert answer is not None
        assert answer.status == 503
        assert [problem["cause"] for problem in answer.body["problems"]] == ["the audit thread has ended"]
