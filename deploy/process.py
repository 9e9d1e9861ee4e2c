"""A process that outlives us: started, recognized, and ended with all its children."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_FIRST_PORT: Final = 20_000
_PORT_TRIES: Final = 50


@dataclass(frozen=True)
class Start:
    """How to start a process: its command, in which directory, and as which user (None: as ours)."""

    command: list[str]
    directory: Path
    user: int | None = None


@dataclass(frozen=True)
class Process:
    """A part that was started: where it listens, and who it is; the start time tells it from a later owner of its pid."""

    port: int
    pid: int
    created: float


def launch(start: Start, port: int, log: Path) -> Process:
    """Start a process that outlives us and holds none of our pipes, which a CI job would wait for."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            start.command,
            cwd=start.directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=start.user,
            start_new_session=True,
        )
    created = psutil.Process(child.pid).create_time()
    # It is ours to know by pid from here on; this keeps Popen from warning that nobody waits for it.
    child.returncode = 0
    return Process(port, child.pid, created)


def find(process: Process) -> psutil.Process | None:
    """The process, if it runs. One that we started and that has ended is reaped here: no zombie stays."""
    try:
        found = psutil.Process(process.pid)
        if abs(found.create_time() - process.created) > 1:
            return None
        if found.status() == psutil.STATUS_ZOMBIE:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, 0)  # a killed one looks like a zombie while its last threads still end
            return None
    except psutil.NoSuchProcess:
        return None
    return found


def listens(process: Process) -> bool:
    """Whether this very process listens on its port: an answer there may come from a stranger."""
    found = find(process)
    if found is None:
        return False
    try:
        sockets = found.net_connections(kind="tcp")
    except psutil.NoSuchProcess:
        return False
    return any(it.status == psutil.CONN_LISTEN and it.laddr.port == process.port for it in sockets)


def end(process: Process, with_signal: int, timeout_s: float) -> bool:
    """Send a signal, wait until the process and its children are gone, kill what stays. False if it did not run."""
    running = find(process)
    if running is None:
        return False
    family = [running]
    with contextlib.suppress(psutil.NoSuchProcess):
        family += running.children(recursive=True)
    with contextlib.suppress(psutil.NoSuchProcess):
        running.send_signal(with_signal)
    _, alive = psutil.wait_procs(family, timeout=timeout_s)
    kill(alive, timeout_s)
    return True


def kill(processes: Iterable[psutil.Process], timeout_s: float) -> None:
    """Kill, and wait until they are gone."""
    doomed = list(processes)
    for it in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            it.send_signal(signal.SIGKILL)
    psutil.wait_procs(doomed, timeout=timeout_s)


def working_in(directory: Path, program: str) -> list[psutil.Process]:
    """The processes of a program that work in a directory."""
    found = []
    for it in psutil.process_iter(["name", "cwd"]):
        cwd = it.info["cwd"]
        if it.info["name"] == program and cwd and Path(cwd).is_relative_to(directory):
            found.append(it)
    return found


def port_is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: old connections do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def becomes_free(port: int, timeout_s: float) -> bool:
    """Whether a port is free, or gets free soon: a killed server's socket may stay a moment longer than its pid."""
    deadline = time.monotonic() + timeout_s
    while not port_is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def free_port() -> int:
    """A free port below the range from which the system takes ports for clients.

    A part keeps its port while it is down, and then a client that reconnects could be given that very port for itself.
    """
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range")
    last = int(limits.read_text("ascii").split()[0]) if limits.exists() else 32_768
    if last > _FIRST_PORT + _PORT_TRIES:
        for _ in range(_PORT_TRIES):
            port = random.randrange(_FIRST_PORT, last)  # noqa: S311 - no secret
            if port_is_free(port):
                return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
