"""A run clears up after itself, however it ends: what a fixture noted, and whatever else it started."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from . import leftovers
from .world import wait_until

ROOT = Path(__file__).parent.parent


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may enter: Postgres does not run as root."""
    path = Path(tempfile.mkdtemp(prefix="core-tables-dying-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_a_process_that_a_test_left_behind_is_killed_and_its_folder_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(leftovers.MARK, os.environ[leftovers.MARK])  # put back at the end: the run continues
    end = leftovers.begin()
    folder = leftovers.note(tmp_path / "noted")
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as waiting:
        end()
        assert not psutil.pid_exists(waiting.pid)
    assert not folder.exists()


@pytest.mark.stack
@pytest.mark.parametrize(
    ("moment", "with_signal", "options"),
    [
        ("launched", signal.SIGINT, []),
        ("launched", signal.SIGKILL, []),
        ("running", signal.SIGINT, []),
        ("running", signal.SIGTERM, []),
        ("running", signal.SIGKILL, ["-n", "1"]),
        ("stopping", signal.SIGKILL, []),
    ],
)
def test_a_run_that_is_killed_leaves_no_process_no_mount_and_no_folder(
    folder: Path, moment: str, with_signal: signal.Signals, options: list[str]
) -> None:
    environment = {**os.environ, "DYING_RUN_FOLDER": str(folder), "DYING_RUN_MOMENT": moment}
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", *options, "tests/faults/dying_run.py"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until((folder / "reached").exists, f"the run to be {moment}")
    started = started_by(run.pid, folder)
    assert len(started) > 1, "the keeper and a server at least"
    run.send_signal(with_signal)
    run.wait(60)
    wait_until(lambda: not any(process.is_running() for process in started), f"{started} to end")
    assert str(folder) not in Path("/proc/mounts").read_text("utf-8")
    assert [path.name for path in folder.iterdir()] == ["reached"]


def started_by(pid: int, folder: Path) -> list[psutil.Process]:
    """The children of a run, its keeper among them, and the servers: they have a session of their own."""
    found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(folder) and process not in found:
            found.append(process)
    return found
