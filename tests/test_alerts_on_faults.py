"""Real faults of a real worker, scraped: each raises its alert and no other; and a real Prometheus reads all of it."""

import contextlib
import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from confluent_kafka import Producer
from psycopg.sql import SQL, Identifier, Literal

from core_tables.cli.ledger_metrics import LedgerCollector
from core_tables.cli.monitor import Monitor, monitor_pages
from core_tables.consumer.audit_emitter import AuditEmitter
from core_tables.consumer.http_server import HttpServer
from core_tables.consumer.metric_families import metrics_page
from core_tables.consumer.worker_metrics import WorkerCollector
from core_tables.deploy.observability.alerts import ALERTS, rules
from core_tables.kafka.log import log_ends
from core_tables.schemas.outcomes import Accepted

from .builders import make
from .metric_tables import scrape
from .promtool import Scrape, continued, firing, tool
from .world import RunningWorker, World, free_ports, new_world, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")]
LOG = structlog.wrap_logger(structlog.ReturnLogger())
MINUTES = 30


class Watched:
    """A worker and a monitor, and what both show."""

    def __init__(self, world: World, running: RunningWorker) -> None:
        self.running = running
        self.worker = WorkerCollector()
        topic, admin = running.worker.topic, world.kafka_admin()
        self.worker.follow(running.worker, partial(log_ends, admin, topic.topic, range(topic.partitions)), "workers")
        self.monitor = Monitor(world.settings, LOG, drift_every_s=0.0)

    def scrapes(self) -> dict[str, Scrape]:
        self.monitor.round()
        monitor = scrape(LedgerCollector(self.monitor.view, self.monitor.compared))
        return {"worker": Scrape(scrape(self.worker), time.time()), "monitor": Scrape(monitor, time.time())}

    def fires(self, folder: Path, *expected: str) -> None:
        """Fail unless exactly these alerts fire when what is shown now lasts half an hour."""
        first = self.scrapes()
        wait_until(lambda: time.time() > first["worker"].at + 2.5, "two scrapes to be some seconds apart")
        last = self.scrapes()
        series: dict[str, str] = {}
        for target in first:
            series |= continued(target, (first[target], last[target]), MINUTES)
        firing(folder, series, MINUTES - 1, set(expected))


@contextlib.contextmanager
def watched(world: World, **settings: Any) -> Iterator[Watched]:
    with world.working(**settings) as running:
        wait_until(lambda: len(running.worker.lanes) == 12 and running.probes.ready().ok, "the worker to be ready")
        yield Watched(world, running)


def test_faults_that_can_be_taken_back_raise_their_alerts_one_after_the_other(world: World, tmp_path: Path) -> None:
    tool("promtool")
    stranger = Producer({"bootstrap.servers": world.stack.bootstrap_servers, "transactional.id": f"{world.name}.x"})
    stranger.init_transactions(20)
    with watched(world) as seen:
        assert world.outcome(make("WORK_ORDER_CREATED")) == Accepted()
        world.drain()
        seen.fires(tmp_path)
        world.admin.execute("update os_core.work_orders_current set turn_id = turn_id + 1")
        seen.fires(tmp_path, "Drift")
        world.admin.execute("update os_core.work_orders_current set turn_id = turn_id - 1")
        stranger.begin_transaction()
        stranger.produce(world.settings.topic, b"x", b"acme", 3)
        stranger.flush(20)
        lane = seen.running.worker.lanes[3]
        wait_until(lambda: lane.behind.behind_s(seen.running.worker.turned_at) > 3, "the lane to be behind")
        seen.fires(tmp_path, "OpenTransaction")
        stranger.abort_transaction(20)
        wait_until(lambda: lane.behind.behind_s(seen.running.worker.turned_at) < 1, "the lane to catch up")
        seen.fires(tmp_path)


def test_a_stopped_lane_a_dead_thread_and_a_worker_that_is_gone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool("promtool")
    fresh, ended, real = new_world(world.stack), list[bool](), AuditEmitter.step

    def step(emitter: AuditEmitter, wait_s: float = 0.0, most: int | None = None) -> int:
        if ended:
            raise SystemExit
        return real(emitter, wait_s, most)

    monkeypatch.setattr(AuditEmitter, "step", step)
    with watched(fresh) as seen:
        fresh.admin.execute("update os_core.lanes set applied = 5, audited = 5 where lane = 3")
        wait_until(lambda: seen.running.worker.lanes[3].stopped, "the lane to stop")
        seen.fires(tmp_path, "LaneStopped")
    fresh.admin.execute("update os_core.lanes set applied = 0, audited = 0 where lane = 3")
    with watched(fresh) as seen:
        ended.append(True)
        wait_until(lambda: not seen.running.probes.alive().ok, "the audit thread to end")
        fresh.append(make("FIELD_SET"))
        seen.fires(tmp_path, "ThreadStands")
    seen.worker = WorkerCollector()

    def nobody_has_lanes() -> bool:
        seen.monitor.round()
        return seen.monitor.view().owned == 0

    wait_until(nobody_has_lanes, "the group to be empty")
    seen.fires(tmp_path, "NoWorker")
    fresh.close()


def test_a_worker_without_its_cache_and_one_without_its_database(world: World, tmp_path: Path) -> None:
    tool("promtool")
    other = new_world(world.stack)
    other.settings = other.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1"})
    with watched(other) as seen:
        seen.fires(tmp_path, "CacheDown")
    other.settings = other.settings.model_copy(update={"redis_url": "none"})
    with watched(other) as seen:
        seen.monitor.round()
        lanes = seen.running.worker.lanes
        with without_database(other):
            wait_until(lambda: all(not lane.opened for lane in lanes.values()), "the lanes to wait")
            now = seen.running.worker
            wait_until(
                lambda: all(lane.behind.behind_s(now.turned_at) > 3 for lane in lanes.values()), "them to be behind"
            )
            assert now.counts.reopens["postgres"] > 0
            seen.fires(tmp_path, "Behind", "MonitorBlind")
    other.close()


@contextlib.contextmanager
def without_database(world: World) -> Iterator[None]:
    """Nobody can connect to a world's database as long as the block runs."""
    allow = SQL("alter database {} allow_connections {}")
    with psycopg.connect(world.stack.postgres_dsn, autocommit=True) as elsewhere:
        elsewhere.execute(allow.format(Identifier(world.name), Literal(False)))
        try:
            elsewhere.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (world.name,)
            )
            yield
        finally:
            elsewhere.execute(allow.format(Identifier(world.name), Literal(True)))


def test_a_real_prometheus_scrapes_worker_and_monitor_and_fires_for_a_stopped_lane_only(
    world: World, tmp_path: Path
) -> None:
    program, port = tool("prometheus"), free_ports()
    fresh = new_world(world.stack)
    with watched(fresh) as seen, contextlib.ExitStack() as open_:
        targets = []
        for pages in ({"/metrics": metrics_page(seen.worker)}, monitor_pages(seen.monitor)):
            server = HttpServer("127.0.0.1", 0, pages)
            open_.callback(server.close)
            targets.append(f"127.0.0.1:{server.port}")
        seen.monitor.round()
        (tmp_path / "core-tables.rules.yml").write_text(rules(lasts="1s"))
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["core-tables.rules.yml"],
            "scrape_configs": [{"job_name": "core-tables", "static_configs": [{"targets": targets}]}],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))
        log = open_.enter_context((tmp_path / "log").open("wb"))
        arguments = [f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}"]
        server_process = subprocess.Popen(
            [program, f"--config.file={tmp_path}/prometheus.yml", *arguments], stdout=log, stderr=log
        )
        try:
            wait_until(lambda: found(port, "sum(up)") == {(): 2.0}, "both targets to be scraped")
            wait_until(lambda: len(rule_states(port)) == len(ALERTS), "the rules to be evaluated")
            wait_until(lambda: not firing_now(port), "what fired before the first scrape to be over")
            assert found(port, "sum by (lane) (core_tables_lane_state)") == {(f"{lane}",): 1.0 for lane in range(12)}
            fresh.admin.execute("update os_core.lanes set applied = 5, audited = 5 where lane = 3")
            wait_until(lambda: firing_now(port), "an alert to fire")
            assert firing_now(port) == {"LaneStopped"}
            assert set(rule_states(port).values()) == {"ok"}
        finally:
            server_process.terminate()
            server_process.wait(30)
    fresh.close()


def answer(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=10) as response:
        return json.load(response)["data"]


def found(port: int, expr: str) -> dict[tuple[str, ...], float]:
    """What Prometheus answers to a query, by the values of labels; nothing before it runs."""
    try:
        result = answer(port, f"query?query={urllib.parse.quote(expr)}")["result"]
    except OSError:
        return {}
    return {tuple(each["metric"].values()): float(each["value"][1]) for each in result}


def rule_states(port: int) -> dict[str, str]:
    """The state of each rule that has been evaluated."""
    groups = answer(port, "rules")["groups"]
    return {rule["name"]: rule["health"] for group in groups for rule in group["rules"] if rule["health"] != "unknown"}


def firing_now(port: int) -> set[str]:
    """The alerts that fire."""
    return {each["labels"]["alertname"] for each in answer(port, "alerts")["alerts"] if each["state"] == "firing"}
