"""Nothing outlives a test run, however it ends: Ctrl-C, a failure in a fixture, kill -9.

A fixture notes what it is about to start or mount, before it does. At the end of the run, every process that carries the run's
mark in its environment or works in a folder that was noted is killed, and the folders are unmounted and removed. The run itself
does this, or its keeper (tests/keeper.py) if the run was killed.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil

from core_tables.deploy import stack as local_stack

from . import keeper

MARK: Final = "CORE_TABLES_TEST_RUN"  # in the environment of every process of a run; its value is the file of the notes
ROUNDS: Final = 10
WAIT_S: Final = 10.0


def begin() -> Callable[[], None]:
    """Mark this process, and with it all that it will start; what to call when the run has ended."""
    handle, name = tempfile.mkstemp(prefix="core-tables-test-run-")
    os.close(handle)
    unmarked = {key: value for key, value in os.environ.items() if key != MARK}
    watcher = subprocess.Popen(
        [sys.executable, keeper.__file__, str(os.getpid()), name],
        env=unmarked,  # or it would kill itself
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.environ[MARK] = name

    def end() -> None:
        clear(Path(name))
        os.environ.pop(MARK, None)
        watcher.communicate(keeper.DONE)

    return end


def note(folder: Path) -> Path:
    """Write down a folder before a local stack is started or something is mounted in it."""
    _write("folder", str(folder.resolve()))
    return folder


def note_project(project: str) -> str:
    """Write down the name of a Compose project before it is started."""
    _write("project", project)
    return project


def clear(notes: Path) -> None:
    """Kill what the run has left behind, then unmount and remove the folders that it noted."""
    noted = [line.split(" ", 1) for line in notes.read_text("utf-8").splitlines()]
    folders = [Path(what) for kind, what in noted if kind == "folder"]
    for _ in range(ROUNDS):  # what is being killed may just have started something
        doomed = list(_left_behind(notes, folders))
        if not doomed:
            break
        for process in doomed:
            print(f"left behind: process {process.pid}", flush=True)
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(doomed, timeout=WAIT_S)
    for project in (what for kind, what in noted if kind == "project"):
        subprocess.run(["docker", "compose", "-p", project, "down", "--volumes"], check=False)
    for folder in folders:
        if folder.exists():
            local_stack.down(folder, print, wipe=True)
            clear_mounts(folder)
            shutil.rmtree(folder, ignore_errors=True)
    notes.unlink()


def clear_mounts(folder: Path) -> None:
    """Unmount what is mounted below a folder."""
    for line in Path("/proc/mounts").read_text("utf-8").splitlines():
        target = Path(line.split(" ")[1])
        if target.is_relative_to(folder.resolve()):
            subprocess.run(["umount", "--lazy", str(target)], check=False)


def _write(kind: str, what: str) -> None:
    with Path(os.environ[MARK]).open("a", encoding="utf-8") as notes:
        notes.write(f"{kind} {what}\n")


def _left_behind(notes: Path, folders: list[Path]) -> Iterator[psutil.Process]:
    """What carries the mark or works in one of the folders; some servers write over the environment that they were given."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            marked = process.environ().get(MARK) == str(notes)
            if process.pid != os.getpid() and (marked or _works_in(process, folders)):
                yield process


def _works_in(process: psutil.Process, folders: list[Path]) -> bool:
    return any(Path(process.cwd()).is_relative_to(folder) for folder in folders)


if __name__ == "__main__":
    clear(Path(sys.argv[1]))
