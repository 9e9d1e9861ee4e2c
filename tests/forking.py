"""Runs the command in processes forked from one that has imported it.

A process of its own imports for half a second, and the tests run the command hundreds of times. What is forked is a process like
any other: it has its own arguments, environment, streams and exit code. What it cannot have is another start of the
interpreter, so a command with other variables than ours is started as usual.
"""

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from core_tables.cli.lazy_group import COMMANDS

ROOT: Final = Path(__file__).parents[1]
PROGRAM: Final = "core_tables.cli.main"
OURS: Final = ("CORE_TABLES_", "PYTEST_")  # variables that no interpreter reads at its start
FITS_A_PIPE: Final = 32_768
FILES: Final = 256  # more than are open
_LARGEST: Final = 1 << 20
_lock = threading.Lock()
_forkers: list["Forker"] = []  # one at most


def can_fork(environment: Mapping[str, str], stdin: bytes) -> bool:
    """Whether a forked process does the same as one that is started: all but our variables are those of this process."""
    if not hasattr(os, "pidfd_open") or len(stdin) > FITS_A_PIPE:
        return False
    return Path.cwd() == ROOT and _of_others(environment) == _of_others(os.environ) == _forker().others


def _of_others(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(OURS)}


def run(
    arguments: Sequence[str | bytes], environment: Mapping[str, str], stdin: bytes, timeout_s: float
) -> "subprocess.CompletedProcess[bytes]":
    """Run the command to its end, as subprocess.run does."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        reader, writer = os.pipe()
        ours, theirs = socket.socketpair()
        with ours:
            try:
                os.write(writer, stdin)
                asked = {"arguments": [os.fsdecode(each) for each in arguments], "environment": dict(environment)}
                _forker().ask(asked, [reader, out.fileno(), err.fileno(), theirs.fileno()])
            finally:
                for end in (reader, writer):
                    os.close(end)
                theirs.close()
            code = _ended(ours, arguments, timeout_s)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(list(arguments), code, out.read(), err.read())


def _ended(reply: socket.socket, arguments: Sequence[str | bytes], timeout_s: float) -> int:
    """The exit code of the process, which is killed when it takes too long."""
    reply.settimeout(timeout_s)
    answers = reply.makefile("rb")
    pid = int(answers.readline())
    try:
        return int(answers.readline())
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        raise subprocess.TimeoutExpired(list(arguments), timeout_s) from None


class Forker:
    """The process that has imported the command, as this one asks it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.others = _of_others(os.environ)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forking"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def ask(self, asked: Mapping[str, Any], files: Sequence[int]) -> None:
        """Have a process forked with these files as its standard streams, and a last one for what becomes of it."""
        socket.send_fds(self._socket, [json.dumps(asked).encode("ascii")], list(files))

    def end(self) -> None:
        """End it: it ends when nobody can ask any more."""
        self._socket.close()
        self._process.wait()


def _forker() -> Forker:
    with _lock:
        if not _forkers:
            _forkers.append(Forker())
        return _forkers[0]


def end() -> None:
    """End the process that forks, if there is one."""
    with _lock:
        while _forkers:
            _forkers.pop().end()


class Asked(NamedTuple):
    """A command to become."""

    arguments: list[str]
    environment: dict[str, str]


def serve(requests: socket.socket) -> Asked | None:
    """Fork a process for each request, and tell its pid and then its exit code. Returns in what was forked, and at the end."""
    running: dict[int, tuple[int, int]] = {}  # by what waits for a process, its pid and where its end is reported
    with selectors.DefaultSelector() as ready:
        ready.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is not requests:
                    ready.unregister(key.fd)
                    pid, reply = running.pop(key.fd)
                    os.close(key.fd)
                    _tell(reply, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                    os.close(reply)
                    continue
                data, files, *_ = socket.recv_fds(requests, _LARGEST, 4)
                if not data:
                    return None
                *streams, reply = files
                pid = os.fork()
                if pid == 0:
                    for number, stream in enumerate(streams):
                        os.dup2(stream, number)
                    return Asked(**json.loads(data))
                for stream in streams:
                    os.close(stream)
                _tell(reply, pid)
                waiter = os.pidfd_open(pid)
                running[waiter] = (pid, reply)
                ready.register(waiter, selectors.EVENT_READ)


def _tell(reply: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # who asked has given up
        os.write(reply, b"%d\n" % number)


def main() -> None:
    """Serve; and in what was forked, run the command, and end as the interpreter does."""
    requests = socket.socket(fileno=os.dup(0))
    program = import_module(PROGRAM)
    for listed in COMMANDS.values():
        import_module(f"core_tables.cli.{listed.module}")
    gc.freeze()
    asked = serve(requests)
    if asked is not None:
        os.closerange(requests.detach(), FILES)
        os.environ.clear()
        os.environ.update(asked.environment)
        sys.argv[1:] = asked.arguments
        program.main(prog_name=f"python -m {PROGRAM}")


if __name__ == "__main__":
    main()
