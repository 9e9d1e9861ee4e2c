"""A test run that waits to be killed at the moment that the environment names: tests/test_leftovers.py runs it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core_tables.deploy import process as processes
from core_tables.deploy import stack as local_stack
from core_tables.deploy.process import Process, Start
from tests.leftovers import clear_mounts, note

# A run in the background of a shell ignores Ctrl-C, and so would this one.
signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(os.environ["DYING_RUN_FOLDER"])


def moment(name: str) -> None:
    """Wait to be killed, if this is the moment."""
    if name == os.environ["DYING_RUN_MOMENT"]:
        (HERE / "reached").touch()
        threading.Event().wait()


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a mount, a Postgres and a Redis."""
    path = note(HERE / "noted")
    path.mkdir()
    path.chmod(0o755)
    (path / "redis").mkdir()
    if os.geteuid() == 0:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path / "redis")], check=False)
    launch = processes.launch

    def launch_and_die(start: Start, port: int, log: Path) -> Process:
        process = launch(start, port, log)
        moment("launched")  # it runs, and nothing but its launcher knows
        return process

    monkeypatch.setattr(processes, "launch", launch_and_die)
    try:
        local_stack.start_part(path, "redis")
        local_stack.start_part(path, "postgres")
        yield path
    finally:
        moment("stopping")
        local_stack.down(path, print, wipe=True)
        clear_mounts(path)


@pytest.mark.usefixtures("folder")
def test_something() -> None:
    deaf = f"import signal; signal.signal({signal.SIGINT:d}, signal.SIG_IGN); signal.pause()"
    subprocess.Popen([sys.executable, "-c", deaf])
    moment("running")
