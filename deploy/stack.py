"""The local stack: Kafka, Postgres and Redis as processes of one folder, started, found again and stopped."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import fasteners
import psutil

from core_tables.deploy.parts import PARTS, PartName, Progress, free_port
from core_tables.schemas.reasons import SetupError

READY_TIMEOUT_S: Final = 90.0
STOP_TIMEOUT_S: Final = 20.0
_STOP_SIGNALS: Final[dict[PartName, int]] = {
    "kafka": signal.SIGTERM,
    "postgres": signal.SIGINT,  # "fast": open transactions are rolled back
    "redis": signal.SIGTERM,
}


@dataclass(frozen=True)
class Process:
    """A part that was started: where it listens, and who it is; the start time tells it from a later owner of its pid."""

    port: int
    pid: int
    created: float


@dataclass(frozen=True)
class StackAddresses:
    """Where the stack answers; `postgres_dsn` is the administrator's."""

    bootstrap_servers: str
    postgres_dsn: str
    redis_url: str


@dataclass(frozen=True)
class PartStatus:
    """A part of the stack, as `stack status` shows it."""

    name: PartName
    running: bool
    address: str | None
    pid: int | None


def up(directory: Path, progress: Progress) -> StackAddresses:
    """Start what is not running, and wait until all of it answers. Raises SetupError."""
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
        for name in PARTS:
            start_part(directory, name, progress)
        for name in PARTS:
            _wait_until_it_answers(directory, name, progress)
        return _addresses(_load(directory))


def down(directory: Path, progress: Progress, *, wipe: bool = False) -> None:
    """Stop every part; with `wipe`, remove its data too. Nothing happens where nothing runs."""
    directory = directory.resolve()
    if not directory.exists():
        return
    with _locked(directory):
        for name in reversed(list(PARTS)):
            if stop_part(directory, name, _STOP_SIGNALS[name]):
                progress(f"{name}: stopped")
        if wipe:
            _wipe(directory)


def status(directory: Path) -> list[PartStatus]:
    """What runs, and where."""
    known = _load(directory.resolve())
    found = []
    for name in PARTS:
        process = known.get(name)
        running = process is not None and _running(process) is not None
        address = f"127.0.0.1:{process.port}" if process else None
        found.append(PartStatus(name, running, address, process.pid if process and running else None))
    return found


def addresses(directory: Path) -> StackAddresses | None:
    """Where a running stack answers; None unless all of it runs."""
    if not all(part.running for part in status(directory)):
        return None
    return _addresses(_load(directory.resolve()))


def start_part(directory: Path, name: PartName, progress: Progress) -> None:
    """Start one part on the port it had before, unless it runs. Does not wait until it answers."""
    known = _load(directory)
    process = known.get(name)
    if process is not None and _running(process) is not None:
        return
    port = process.port if process is not None else free_port()
    start = PARTS[name].prepare(directory / name, port, progress)
    logs = directory / "logs"
    logs.mkdir(exist_ok=True)
    with (logs / f"{name}.log").open("ab") as log:
        child = subprocess.Popen(
            start.command,
            cwd=start.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=start.user,
            start_new_session=True,
        )
    _save(directory, known | {name: Process(port, child.pid, psutil.Process(child.pid).create_time())})
    progress(f"{name}: started on port {port}")


def stop_part(directory: Path, name: PartName, with_signal: int) -> bool:
    """Send a signal to one part and wait until it and its children are gone. False if it was not running."""
    process = _load(directory).get(name)
    running = _running(process) if process is not None else None
    if running is None:
        return False
    family = [running, *running.children(recursive=True)]
    with contextlib.suppress(psutil.NoSuchProcess):
        running.send_signal(with_signal)
    _, alive = psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
    for stubborn in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            stubborn.kill()
    psutil.wait_procs(alive, timeout=STOP_TIMEOUT_S)
    return True


def wait_for(directory: Path, names: Sequence[PartName], progress: Progress) -> None:
    """Wait until parts answer. Raises SetupError."""
    for name in names:
        _wait_until_it_answers(directory.resolve(), name, progress)


def _wait_until_it_answers(directory: Path, name: PartName, progress: Progress) -> None:
    process = _load(directory)[name]
    log = directory / "logs" / f"{name}.log"
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not PARTS[name].answers(process.port):
        if _running(process) is None:
            raise SetupError(f"{name} ended at once: {_last_line(log)}; its log is {log}", "machine")
        if time.monotonic() > deadline:
            raise SetupError(
                f"{name} does not answer after {READY_TIMEOUT_S:.0f} s: {_last_line(log)}; its log is {log}", "machine"
            )
        time.sleep(0.05)
    progress(f"{name}: ready")


def _running(process: Process) -> psutil.Process | None:
    try:
        found = psutil.Process(process.pid)
        if abs(found.create_time() - process.created) > 1 or found.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return found


def _addresses(known: dict[PartName, Process]) -> StackAddresses:
    return StackAddresses(
        f"127.0.0.1:{known['kafka'].port}",
        f"postgresql://postgres@127.0.0.1:{known['postgres'].port}/core_tables",
        f"redis://127.0.0.1:{known['redis'].port}/0",
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
    elsewhere = directory / "postgres" / "elsewhere"
    if elsewhere.exists():
        shutil.rmtree(elsewhere.read_text("utf-8"), ignore_errors=True)
    for entry in (*PARTS, "logs"):
        shutil.rmtree(directory / entry, ignore_errors=True)
    (directory / "stack.json").unlink(missing_ok=True)


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines() if log.exists() else []
    return lines[-1][:300] if lines else "it said nothing"


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One `up` or `down` at a time for a folder."""
    with fasteners.InterProcessLock(str(directory / "lock")):
        yield
