"""A run clears up after itself: what a fixture noted, and whatever else it started."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from . import leftovers


def test_a_process_that_a_test_left_behind_is_killed_and_its_folder_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(leftovers.MARK, os.environ[leftovers.MARK])  # put back at the end: the run goes on
    leftovers.begin()
    folder = leftovers.note(tmp_path / "noted")
    folder.mkdir()
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    leftovers.clear()
    assert not psutil.pid_exists(sleeper.pid)
    assert not folder.exists()
