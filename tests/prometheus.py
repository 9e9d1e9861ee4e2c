"""A real Prometheus that scrapes a worker and a monitor of this process, with rules that wait seconds instead of minutes."""

import contextlib
import json
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import structlog

from core_tables.cli import wiring
from core_tables.cli.monitor import Monitor, monitor_pages
from core_tables.consumer.http_server import HttpServer
from core_tables.consumer.metric_families import metrics_page
from core_tables.consumer.worker_metrics import WorkerCollector
from core_tables.deploy.observability.alerts import ALERTS, rules

from .promtool import tool
from .world import RunningWorker, World, free_ports, wait_until

LOG = structlog.wrap_logger(structlog.ReturnLogger())
SETTLES_S: Final = 120
# Ages stay above what deadlines allow: a worker makes no turn for up to 25 s while Postgres is suspended, and while Kafka is, its
# lanes grow older until the session timeout of 10 s takes them away, later on a busy machine.
SHORTER: Final = {
    "> 60 unless": "> 30 unless",
    "> 300 and": "> 50 and",
    "> 90)": "> 32)",
    "[2m]": "[8s]",
    "[5m]": "[10s]",
    "[10m]": "[20s]",
    "[15m]": "[30s]",
    "[1h]": "[2m]",
}


def shorter_rules() -> str:
    """The rules with shorter ages and windows; each alert fires after a sixtieth of its time."""
    found = " ".join(alert.expr for alert in ALERTS)
    assert [each for each in SHORTER if each not in found] == []
    alerts = []
    for alert in ALERTS:
        expr = alert.expr
        for ours, shorter in SHORTER.items():
            expr = expr.replace(ours, shorter)
        seconds = int(alert.lasts[:-1]) * {"s": 1, "m": 60, "h": 3600}[alert.lasts[-1]]
        alerts.append(alert._replace(expr=expr, lasts=f"{max(1, seconds // 60)}s"))
    return rules(tuple(alerts))


class Watched:
    """What a worker and the monitor of a ledger show to a Prometheus, and what it makes of that."""

    def __init__(self, world: World, port: int) -> None:
        self.world = world
        self.collector = WorkerCollector()
        self.monitor = Monitor(world.settings, LOG, drift_every_s=0.0)
        self._port = port

    @contextlib.contextmanager
    def working(self, **settings: Any) -> Iterator[RunningWorker]:
        """A worker that is ready, and scraped as long as the block runs."""
        with self.world.working(**settings) as running:
            ends = wiring.current_ends(self.world.settings, running.worker.topic, timeout_s=0.5)
            self.collector.follow(running.worker, ends, self.world.settings.group_id)
            wait_until(lambda: len(running.worker.lanes) == 12 and running.probes.ready().ok, "the worker to be ready")
            self.quiet()
            try:
                yield running
            finally:
                self.collector._followed = None  # as the process is gone, and its port with it

    def raises(self, *expected: str) -> None:
        """Wait until no alert is about to fire, and fail unless exactly these do."""
        wait_until(lambda: set(expected) <= self._alerts()["firing"], f"{expected} to fire", SETTLES_S)
        wait_until(lambda: not self._alerts()["pending"], "the other alerts to fire or not", SETTLES_S)
        firing = self._alerts()["firing"]
        assert firing == set(expected), sorted(firing)

    def quiet(self) -> None:
        """Wait until no alert fires or is about to."""
        seen: list[Any] = []

        def nothing() -> bool:
            seen[:] = [self._alerts()]
            return seen == [{"firing": set(), "pending": set()}]

        try:
            wait_until(nothing, "all alerts to end", SETTLES_S)
        except AssertionError:
            raise AssertionError(f"still: {seen}") from None

    def found(self, expr: str) -> dict[tuple[str, ...], float]:
        """What Prometheus answers to a query, by the values of labels; nothing before it runs."""
        try:
            result = self._answer(f"query?query={urllib.parse.quote(expr)}")["result"]
        except OSError:
            return {}
        return {tuple(each["metric"].values()): float(each["value"][1]) for each in result}

    def rule_states(self) -> dict[str, str]:
        """The state of each rule that has been evaluated."""
        found = [rule for group in self._answer("rules")["groups"] for rule in group["rules"]]
        return {rule["name"]: rule["health"] for rule in found if rule["health"] != "unknown"}

    def _alerts(self) -> dict[str, set[str]]:
        states: dict[str, set[str]] = {"firing": set(), "pending": set()}
        for each in self._answer("alerts")["alerts"]:
            states[each["state"]].add(each["labels"]["alertname"])
        return states

    def _answer(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}", timeout=10) as response:
            return json.load(response)["data"]


@contextlib.contextmanager
def watched(world: World, folder: Path) -> Iterator[Watched]:
    """A Prometheus that looks every second; the monitor of the ledger makes its rounds as often."""
    program, port = tool("prometheus"), free_ports()
    seen, done = Watched(world, port), threading.Event()

    def rounds() -> None:
        while not done.wait(1.0):
            seen.monitor.round()

    with contextlib.ExitStack() as open_:
        targets = []
        for pages in ({"/metrics": metrics_page(seen.collector)}, monitor_pages(seen.monitor, world.settings)):
            server = HttpServer("127.0.0.1", 0, pages)
            open_.callback(server.close)
            targets.append(f"127.0.0.1:{server.port}")
        thread = threading.Thread(target=rounds)
        thread.start()
        open_.callback(thread.join, 60)
        open_.callback(done.set)
        (folder / "core-tables.rules.yml").write_text(shorter_rules())
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["core-tables.rules.yml"],
            "scrape_configs": [{"job_name": "core-tables", "static_configs": [{"targets": targets}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        log = open_.enter_context((folder / "log").open("wb"))
        arguments = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        process = subprocess.Popen(
            [program, *arguments, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
        open_.callback(process.wait, 30)
        open_.callback(process.terminate)
        wait_until(lambda: seen.found("sum(up)") == {(): 2.0}, "both targets to be scraped")
        wait_until(lambda: len(seen.rule_states()) == len(ALERTS), "the rules to be evaluated")
        yield seen
        assert set(seen.rule_states().values()) == {"ok"}
