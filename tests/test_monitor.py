"""The monitor: what no worker shows, and nothing that is not true any more."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from importlib.metadata import version
from pathlib import Path

import pytest
import structlog

from core_tables.cli.ledger_metrics import LedgerCollector
from core_tables.cli.monitor import Monitor
from core_tables.cli.probe_client import ask
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import UnavailableError
from core_tables.settings.forms import HttpAddress

from .builders import make
from .certificates import Authority
from .metric_tables import OF_THE_LEDGER, documented, of_lanes, samples, scrape, scraped
from .world import World, free_ports, wait_until

pytestmark = pytest.mark.stack
LOG = structlog.wrap_logger(structlog.ReturnLogger())


def shown(monitor: Monitor) -> str:
    return scrape(LedgerCollector(monitor.view, monitor.compared))


def value(text: str, name: str, **labels: str) -> float:
    (found,) = [sample.value for sample in samples(text, f"core_tables_{name}") if sample.labels == labels]
    return found


def test_a_monitor_shows_the_metrics_of_its_table_lanes_that_nobody_has_and_drift(world: World) -> None:
    now = 0.0
    monitor = Monitor(world.settings, LOG, drift_every_s=0.0, clock=lambda: now)

    def says_who_has_lanes() -> bool:
        monitor.round()
        return "group" not in monitor.view().failed

    wait_until(says_who_has_lanes, "the first group that the cluster is asked about to have a coordinator")
    assert value(shown(monitor), "ledger_lanes_owned") == 0
    assert value(shown(monitor), "ledger_lanes") == 12
    with world.working():
        assert world.outcome(make("WORK_ORDER_CREATED")) == Accepted()
        world.drain()
        monitor.round()
        text = shown(monitor)
    expected = {row for row in documented().values() if row.name.startswith(OF_THE_LEDGER)}
    assert set(scraped(text).values()) == expected
    assert value(text, "ledger_lanes_owned") == 12
    for which in ("applied", "audited", "log_end", "last_stable"):
        assert of_lanes(samples(text, f"core_tables_ledger_lane_{which}_offset"))[0] == 1
    assert value(text, "drift_work_orders") == 0
    assert value(text, "drift_compared_total") == 1
    assert {sample.value for sample in samples(text, "core_tables_monitor_source_answers")} == {1}
    world.admin.execute("update os_core.work_orders_current set turn_id = turn_id + 1")
    monitor.round()
    assert value(shown(monitor), "drift_work_orders") == 1
    world.admin.execute("update os_core.work_orders_current set turn_id = turn_id - 1")
    monitor.round()
    assert value(shown(monitor), "drift_work_orders") == 0
    now = 1000.0
    assert not monitor.alive()
    assert scraped(shown(monitor)).keys() == {"core_tables_monitor_source_answers", "core_tables_drift_compared_total"}
    monitor.close()


def test_what_does_not_answer_is_absent_and_the_rest_is_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UnavailableError("kafka", "planted")

    monitor = Monitor(world.settings, LOG)
    monitor.round()
    monkeypatch.setattr("core_tables.cli.monitor.log_ends", refuse)
    monitor.round()
    text = shown(monitor)
    assert value(text, "monitor_source_answers", source="kafka") == 0
    assert value(text, "monitor_source_answers", source="postgres") == 1
    assert not samples(text, "core_tables_ledger_lane_log_end_offset")
    assert len(samples(text, "core_tables_ledger_lane_applied_offset")) == 12
    world.admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'core-tables operator' "
        "and datname = current_database()"
    )
    monkeypatch.undo()
    monitor.round()
    text = shown(monitor)
    assert value(text, "monitor_source_answers", source="postgres") == 0
    assert not samples(text, "core_tables_ledger_lane_applied_offset")
    assert len(samples(text, "core_tables_ledger_lane_log_end_offset")) == 12
    monitor.round()
    assert value(shown(monitor), "monitor_source_answers", source="postgres") == 1
    monitor.close()


def test_the_command_serves_until_it_is_asked_to_end_and_logs_as_a_monitor(world: World, tmp_path: Path) -> None:
    trusted = {**world.settings.kafka, "ssl.ca.location": str(Authority(tmp_path).certificate)}
    assert b"CORE_TABLES_HTTP is not set" in world.command("monitor").stderr
    address = HttpAddress("127.0.0.1", free_ports())
    process = subprocess.Popen(
        [sys.executable, "-m", "core_tables.cli.main", "monitor"],
        env={
            **world.environment(),
            "CORE_TABLES_HTTP": str(address),
            "CORE_TABLES_LOG_FORMAT": "text",
            "CORE_TABLES_KAFKA": json.dumps(trusted),
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: (answer := ask(address, "/readyz")) and answer.status == 200, "the monitor to be ready")
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        wait_until(lambda: (answer := ask(address, "/healthz")) and answer.body["alive"], "the monitor to be alive")
        assert "process_cpu_seconds_total" in text
        (of_its_own,) = samples(text, "core_tables_certificate_not_after_timestamp_seconds")
        assert of_its_own.labels == {"service": "kafka", "kind": "authority"}
    finally:
        process.send_signal(signal.SIGTERM)
        _, lines = process.communicate(timeout=30)
    assert process.returncode == 0
    (started,) = [line for line in lines.splitlines() if "monitor_started" in line]
    assert f"monitor=core-tables-monitor-{socket.gethostname()}-{process.pid}" in started
    assert f"version={version('core-tables')}" in started
    assert "worker" not in lines
