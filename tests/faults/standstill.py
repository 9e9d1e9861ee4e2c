"""Servers that are suspended: they hold their connections and answer nothing."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from core_tables.deploy import stack as local_stack
from core_tables.deploy.parts import PartName


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
        yield
    finally:
        for pid in reversed(stopped):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
