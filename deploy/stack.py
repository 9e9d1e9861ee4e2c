"""The local stack: Kafka, Postgres and Redis as processes, with their data in one folder."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import fasteners

from core_tables.deploy import process as processes
from core_tables.deploy.parts import PARTS, PartName, ShowLine, password
from core_tables.deploy.process import Process
from core_tables.schemas.reasons import SetupError

READY_TIMEOUT_S: Final = 90.0
STOP_TIMEOUT_S: Final = 20.0
_PORT_TIMEOUT_S: Final = 5.0
_STOP_SIGNALS: Final[dict[PartName, int]] = {
    "kafka": signal.SIGTERM,
    "postgres": signal.SIGINT,  # "fast": open transactions are rolled back
    "redis": signal.SIGTERM,
}
_PROGRAMS: Final[dict[PartName, str]] = {"kafka": "java", "postgres": "postgres", "redis": "valkey-server"}
_threads: Final = threading.RLock()  # the file lock excludes other processes only


@dataclass(frozen=True)
class StackAddresses:
    """The addresses of a running stack, with its password; `postgres_dsn` is the administrator's."""

    bootstrap_servers: str
    postgres_dsn: str = field(repr=False)
    redis_url: str = field(repr=False)


@dataclass(frozen=True)
class PartStatus:
    """A part of the stack, as `stack status` shows it."""

    name: PartName
    running: bool
    address: str | None
    pid: int | None


def up(directory: Path, progress: ShowLine, ports: Mapping[PartName, int] | None = None) -> StackAddresses:
    """Start the parts that are not running, and wait until all parts answer. Raises SetupError.

    `ports` are for parts that were never started. A part that was has the same port again, so that addresses stay valid.
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
        for name in PARTS:
            _start(directory, name, progress, (ports or {}).get(name))
        for name in PARTS:
            _wait_until_it_answers(directory, name, progress)
        return _addresses(directory)


def down(directory: Path, progress: ShowLine, *, wipe: bool = False) -> None:
    """Stop every part that is running; with `wipe`, remove the data of all parts too."""
    directory = directory.resolve()
    if not directory.exists():
        return
    with _locked(directory):
        for name in reversed(list(PARTS)):
            if _stop(directory, name, _STOP_SIGNALS[name]):
                progress(f"{name}: stopped")
        if wipe:
            _wipe(directory)


def status(directory: Path) -> list[PartStatus]:
    """Which parts are running, and where."""
    known = _load(directory.resolve())
    found = []
    for name in PARTS:
        process = known.get(name)
        running = process is not None and processes.find(process) is not None
        address = f"127.0.0.1:{process.port}" if process else None
        found.append(PartStatus(name, running, address, process.pid if process and running else None))
    return found


def addresses(directory: Path) -> StackAddresses | None:
    """The addresses of a stack, or None unless all of its parts are running."""
    if not all(part.running for part in status(directory)):
        return None
    return _addresses(directory.resolve())


def start_part(directory: Path, name: PartName, progress: ShowLine = lambda _: None) -> None:
    """Start one part unless it is running, with its former port and data, and wait until it answers. Raises SetupError."""
    directory = directory.resolve()
    with _locked(directory):
        _start(directory, name, progress)
        _wait_until_it_answers(directory, name, progress)


def stop_part(directory: Path, name: PartName, *, with_signal: int | None = None) -> bool:
    """Stop one part, by a signal of your choice, and wait until it and its children have ended. False if it was not running."""
    directory = directory.resolve()
    with _locked(directory):
        return _stop(directory, name, _STOP_SIGNALS[name] if with_signal is None else with_signal)


def _start(directory: Path, name: PartName, progress: ShowLine, wanted_port: int | None = None) -> None:
    known = _load(directory)
    process = known.get(name)
    if process is not None and processes.find(process) is not None:
        return
    port = process.port if process is not None else wanted_port or processes.free_port()
    _end_orphans(directory, name)
    if not processes.becomes_free(port, _PORT_TIMEOUT_S):
        raise SetupError(
            f"{name}: its port {port} is used by another process; stop that process and try again, "
            "or run `core-tables stack down --wipe`, which removes the data of this stack and gives it other ports",
            "machine",
        )
    start = PARTS[name].prepare(directory / name, port, progress)
    logs = directory / "logs"
    logs.mkdir(exist_ok=True)
    process = processes.launch(start, port, logs / f"{name}.log")
    try:
        _save(directory, known | {name: process})
    except BaseException:  # Ctrl-C too: nobody could stop a process that is not in the file
        processes.end(process, signal.SIGKILL, STOP_TIMEOUT_S)
        raise
    progress(f"{name}: started on port {port}")


def _stop(directory: Path, name: PartName, with_signal: int) -> bool:
    process = _load(directory).get(name)
    ran = process is not None and processes.end(process, with_signal, STOP_TIMEOUT_S)
    _end_orphans(directory, name)
    return ran


def _end_orphans(directory: Path, name: PartName) -> None:
    """Kill processes of a part that are not on record: after a killed `up`, or the backends of a killed Postgres.

    While those backends run, a new server cannot start.
    """
    home = postgres_home(directory) if name == "postgres" else directory / name
    processes.kill(processes.working_in(home, _PROGRAMS[name]), STOP_TIMEOUT_S)


def _wait_until_it_answers(directory: Path, name: PartName, progress: ShowLine) -> None:
    log = directory / "logs" / f"{name}.log"
    deadline = time.monotonic() + READY_TIMEOUT_S
    ended = 0
    while True:
        process = _load(directory)[name]
        if processes.listens(process) and PARTS[name].answers(process.port, password(directory)):
            break
        if processes.find(process) is None:
            ended += 1
            if ended > 1:
                raise SetupError(f"{name} ended at once: {_last_line(log)}; look at its log, {log}", "machine")
            _start(directory, name, progress)  # it may have been about to end when it was found running
        if time.monotonic() > deadline:
            raise SetupError(
                f"{name} does not answer after {READY_TIMEOUT_S:.0f} s: {_last_line(log)}; look at its log, {log}",
                "machine",
            )
        time.sleep(0.05)
    progress(f"{name}: ready")


def _addresses(directory: Path) -> StackAddresses:
    known, secret = _load(directory), password(directory)
    return StackAddresses(
        f"127.0.0.1:{known['kafka'].port}",
        f"postgresql://postgres:{secret}@127.0.0.1:{known['postgres'].port}/core_tables",
        f"redis://:{secret}@127.0.0.1:{known['redis'].port}/0",
    )


def _load(directory: Path) -> dict[PartName, Process]:
    path = directory / "stack.json"
    if not path.exists():
        return {}
    stored: dict[PartName, dict[str, float]] = json.loads(path.read_text("utf-8"))
    return {name: Process(int(v["port"]), int(v["pid"]), v["created"]) for name, v in stored.items()}


def _save(directory: Path, known: dict[PartName, Process]) -> None:
    path = directory / "stack.json"
    staged = path.with_suffix(".new")
    staged.write_text(json.dumps({name: asdict(process) for name, process in known.items()}, indent=2), "utf-8")
    os.replace(staged, path)


def _wipe(directory: Path) -> None:
    shutil.rmtree(postgres_home(directory), ignore_errors=True)
    for entry in (*PARTS, "logs"):
        shutil.rmtree(directory / entry, ignore_errors=True)
    for file in ("stack.json", "password"):
        (directory / file).unlink(missing_ok=True)


def postgres_home(directory: Path) -> Path:
    """The data directory of Postgres. It is elsewhere if the user of Postgres may not enter ours."""
    elsewhere = directory / "postgres" / "elsewhere"
    return Path(elsewhere.read_text("utf-8")) if elsewhere.exists() else directory / "postgres"


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines() if log.exists() else []
    return f"{lines[-1]:.300}" if lines else "it logged nothing"


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let only one thread and process change the stack of a folder."""
    with _threads, fasteners.InterProcessLock(str(directory / "lock")):
        yield
