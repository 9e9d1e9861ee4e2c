"""Servers that are suspended: they hold their connections and answer nothing."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from core_tables.deploy import stack as local_stack
from core_tables.deploy.parts import PartName
from tests.world import wait_until


@contextmanager
def standing_still(folder: Path, part: PartName) -> Iterator[None]:
    """Stop every process of a part of the local stack in `folder` as long as the block runs."""
    (status,) = [each for each in local_stack.status(folder) if each.name == part]
    assert status.pid is not None, f"{part} does not run"
    server = psutil.Process(status.pid)
    stopped: list[int] = []
    try:
        for process in (server, *server.children(recursive=True)):  # the server first: it starts no more children then
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGSTOP)
                stopped.append(process.pid)
        # On busy cores, a server answers for a moment more.
        wait_until(lambda: all(map(_is_stopped, stopped)), f"{part} to be suspended")
        yield
    finally:
        for pid in reversed(stopped):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _is_stopped(pid: int) -> bool:
    """Whether none of its threads runs; one that has ended is a zombie (Z in proc_pid_stat(5)) until its parent runs again."""
    try:
        states = {stat.read_text("utf-8").rpartition(") ")[2][0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")}
    except (FileNotFoundError, ProcessLookupError):  # a thread ended just now
        return False
    return states <= {"T", "Z"}
