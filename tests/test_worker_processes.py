"""Several workers under one command: they share the lanes, and end together."""

import io
import json
import signal
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path

import psutil
import pytest
import structlog

from core_tables.cli import output
from core_tables.cli.log_lines import logger
from core_tables.cli.probe_client import ask
from core_tables.settings.forms import HttpAddress

from .builders import make
from .world import World, free_ports, wait_until

pytestmark = pytest.mark.stack


def children_of(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children() if child.is_running()]


def test_a_log_line_is_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes write to one pipe, and what is written in two goes may be parted by another's line."""
    written: list[str] = []

    class Recorder(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    monkeypatch.setattr("sys.stderr", Recorder())
    logger().info("assigned", partitions=[1])
    structlog.reset_defaults()
    (line,) = written
    assert line.endswith("\n")


def _both_have_lanes(log: Path) -> bool:
    """Whether each of two processes has opened half of the lanes. The first may have all of them until the second joins."""
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    opened = Counter(line["worker"] for line in lines if line["event"] == "lane_opened")
    return len(opened) == 2 and min(opened.values()) >= 6


def test_two_processes_share_the_lanes_and_end_with_the_command(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as lines:
        command = world.worker_process("--processes", "2", log=lines)
        try:
            wait_until(partial(_both_have_lanes, log), "both processes to have their half of the lanes")
            receipts = world.append(*(make("FIELD_SET", tenant_id=f"tenant-{number}") for number in range(40)))
            assert None not in [receipt.outcome(60) for receipt in receipts]
            assert log.read_text("utf-8").count("worker_started") == 2
            children = children_of(command)
            assert len(children) == 2
            command.send_signal(signal.SIGTERM)
            assert command.wait(30) == output.EXIT_OK
            assert not any(child.is_running() for child in children)
            assert world.drained(), "at its end, a worker says how far its audit is"
        finally:
            command.kill()


def test_a_process_that_dies_ends_the_command_and_a_smaller_one_after_it_answers_for_itself_only(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third worker leaves its health file behind, and nobody listens on its port any more."""
    http = HttpAddress("127.0.0.1", free_ports(4))
    monkeypatch.setenv("CORE_TABLES_HTTP", str(http))
    monkeypatch.setenv("CORE_TABLES_HEALTH_FILE", str(tmp_path / "health"))

    def ready(workers: int) -> bool:
        alive, answer = ask(http, "/healthz"), ask(http, "/readyz")
        answers = [each for each in (alive, answer) if each is not None]
        return [(each.status, len(each.body["workers"])) for each in answers] == [(200, workers)] * 2

    for count in (3, 2):
        command = world.worker_process("--processes", str(count))
        try:
            wait_until(partial(ready, count), f"{count} workers to be ready")
            if count == 3:
                children = children_of(command)
                children[2].send_signal(signal.SIGKILL)
                assert command.wait(30) == 128 + signal.SIGKILL
                assert not any(child.is_running() for child in children)
                assert (tmp_path / "health.3").exists()
        finally:
            command.terminate()
            assert command.wait(30) in (output.EXIT_OK, 128 + signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []
