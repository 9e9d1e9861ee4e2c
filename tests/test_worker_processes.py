"""Several workers under one command: they share the lanes, and end together."""

import io
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
import structlog

from core_tables.cli import output
from core_tables.cli.log_lines import logger

from .builders import make
from .world import World, wait_until

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


def test_two_processes_share_the_lanes_and_end_with_the_command(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as lines:
        command = world.worker_process("--processes", "2", log=lines)
        try:
            wait_until(lambda: log.read_text("utf-8").count("lane_opened") >= 12, "every lane to be opened")
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


def test_a_process_that_dies_ends_the_command(world: World) -> None:
    command = world.worker_process("--processes", "2")
    try:
        children = wait_until(lambda: len(found := children_of(command)) == 2 and found, "two workers to run")
        children[0].send_signal(signal.SIGKILL)
        assert command.wait(30) == 128 + signal.SIGKILL
        assert not any(child.is_running() for child in children)
    finally:
        command.kill()
