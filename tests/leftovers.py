"""Nothing outlives a test run, however it ends: Ctrl-C, a failure in a fixture, a process of pytest-xdist that was killed.

A fixture notes what it is about to start or mount. Where the run began, all that was noted is stopped at the end, and after it
every process that still carries the run's mark in its environment.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import psutil

from core_tables.deploy import stack as local_stack

MARK: Final = "CORE_TABLES_TEST_RUN"  # in the environment of every process of a run; its value is the file of the notes


def begin() -> None:
    """Mark this process, and with it all that it will start."""
    handle, name = tempfile.mkstemp(prefix="core-tables-test-run-")
    os.close(handle)
    os.environ[MARK] = name


def note(folder: Path) -> Path:
    """Write down a folder before a local stack is started or something is mounted in it."""
    with Path(os.environ[MARK]).open("a", encoding="utf-8") as notes:
        notes.write(f"{folder}\n")
    return folder


def clear() -> None:
    """Stop what runs in the folders noted, unmount what is mounted there, and kill what carries the mark."""
    notes = Path(os.environ[MARK])
    for folder in map(Path, notes.read_text("utf-8").splitlines()):
        if folder.exists():
            local_stack.down(folder, lambda line: print(f"left behind: {line}"), wipe=True)
            clear_mounts(folder)
            shutil.rmtree(folder, ignore_errors=True)
    doomed = [process for process in psutil.process_iter() if _is_marked(process, notes)]
    for process in doomed:
        print(f"left behind: process {process.pid}")
        process.kill()
    psutil.wait_procs(doomed, timeout=10)
    notes.unlink()
    del os.environ[MARK]


def clear_mounts(folder: Path) -> None:
    """Unmount what is mounted below a folder."""
    for line in Path("/proc/mounts").read_text("utf-8").splitlines():
        target = Path(line.split(" ")[1])
        if target.is_relative_to(folder.resolve()):
            subprocess.run(["umount", "--lazy", str(target)], check=False)


def _is_marked(process: psutil.Process, notes: Path) -> bool:
    try:
        return process.pid != os.getpid() and bool(process.environ().get(MARK) == str(notes))
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False
