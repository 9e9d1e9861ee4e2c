"""Processes that outlive this one: start, find and end them, with all their children."""

import contextlib
import os
import pwd
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

_FIRST_PORT: Final = 20_000
_PORT_TRIES: Final = 50


@dataclass(frozen=True)
class Start:
    """How to start a process: its command, its directory, and its user (None: the user of this process)."""

    command: list[str]
    directory: Path
    user: int | None = None


@dataclass(frozen=True)
class Process:
    """A process that was started. `created` (seconds since 1970) distinguishes it from a later process with the same pid."""

    port: int
    pid: int
    created: float


def as_user(user: int | None) -> Any:
    """The arguments of Popen to run as another user, with that user's own group and no other; None changes nothing."""
    return {} if user is None else {"user": user, "group": pwd.getpwuid(user).pw_gid, "extra_groups": []}


def launch(start: Start, port: int, log: Path) -> Process:
    """Start a process that outlives this one. It inherits none of our pipes, since a CI job would wait for those."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            start.command,
            cwd=start.directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **as_user(start.user),
        )
    created = psutil.Process(child.pid).create_time()
    # From here on it is known by its pid. This keeps Popen from warning that nobody waits for it.
    child.returncode = 0
    return Process(port, child.pid, created)


def find(process: Process) -> psutil.Process | None:
    """The running process, or None. If it is a child that has ended, it is reaped, so that no zombie stays."""
    try:
        found = psutil.Process(process.pid)
        if abs(found.create_time() - process.created) > 1:
            return None
        if found.status() == psutil.STATUS_ZOMBIE:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, 0)  # a killed process looks like a zombie until its last threads have ended
            return None
    except psutil.NoSuchProcess:
        return None
    return found


def listens(process: Process) -> bool:
    """Whether this process itself listens on its port; an answer there may come from another one."""
    found = find(process)
    if found is None:
        return False
    try:
        sockets = found.net_connections(kind="tcp")
    except psutil.NoSuchProcess:
        return False
    return any(it.status == psutil.CONN_LISTEN and it.laddr.port == process.port for it in sockets)


def end(process: Process, with_signal: int, timeout_s: float) -> bool:
    """Send a signal, wait until the process and its children have ended, then kill the rest. False if it was not running."""
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
    """Kill processes, and wait until they have ended."""
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
    """Whether a server could listen on a port now."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do, so that closed connections do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def becomes_free(port: int, timeout_s: float) -> bool:
    """Wait until a port is free; False if it is not in time. The socket of a killed server may outlive its pid for a moment."""
    deadline = time.monotonic() + timeout_s
    while not port_is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def free_port() -> int:
    """A free port, if possible below the range from which the system gives ports to clients.

    A part has the same port after a restart. While it is down, a client that reconnects could be given that very port.
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
