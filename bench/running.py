"""Processes that work during a measurement and end with it."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import IO, Final

import psycopg
from msgspec.structs import replace

from bench import events, pacing, place
from core_tables.cli import wiring
from core_tables.producer import Ledger
from core_tables.schemas.wire import encode_event
from core_tables.settings.environment import Settings

READY_S: Final = 60.0
STOP_S: Final = 30.0
FOLDED_S: Final = 900.0
LOOK_S: Final = 0.05
AFTER_FAILURE: Final = 10  # lines of a log


@contextlib.contextmanager
def worker(settings: Settings, *arguments: str, log: Path = Path(os.devnull)) -> Iterator[None]:
    """A worker that has opened every lane; its log goes to a file, too."""
    with log.open("wb") as kept, ended(place.worker(settings, *arguments)) as process:
        opened = Log(process.stderr, lambda line: b'"lane_opened"' in line, settings.partitions, kept=kept)
        opened.ready_at(READY_S)
        yield


@contextlib.contextmanager
def ledger(settings: Settings) -> Iterator[Ledger]:
    """A ledger, and a worker that folds what it appends."""
    with worker(settings):
        made = wiring.ledger(settings)
        yield made
        made.close()


@contextlib.contextmanager
def ended(process: "subprocess.Popen[bytes]", patience: float = STOP_S) -> Iterator["subprocess.Popen[bytes]"]:
    """End a process on the way out, by force if it takes longer than `patience` seconds."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Log:
    """Reads the log of a process in a thread, so that the process never blocks on it, and notes when it is ready.

    It is ready after `count` lines for which `says_ready` holds. It has failed after a line with `failure` in it. Lines are
    copied to `kept`.
    """

    def __init__(
        self,
        lines: IO[bytes] | None,
        says_ready: Callable[[bytes], bool],
        count: int = 1,
        failure: bytes | None = None,
        kept: IO[bytes] | None = None,
    ) -> None:
        self.failed = False
        self._says_ready, self._missing, self._failure = says_ready, count, failure
        self._kept = kept
        self._ready_at: float | None = None
        self._known = threading.Event()
        self._last: deque[bytes] = deque(maxlen=30)
        self._after_failure = 0  # how many lines came since
        self._thread = threading.Thread(target=self._read, args=(lines or (),), daemon=True)
        self._thread.start()

    def ready_at(self, timeout: float) -> float:
        """Wait until the process is ready; when that was (monotonic). Raises RuntimeError with the end of the log."""
        self._known.wait(timeout)
        if self._ready_at is None:
            raise RuntimeError(f"a process was not ready within {timeout:.0f} s; the end of its log:\n{self.end()}")
        return self._ready_at

    def end(self) -> str:
        """The end of the log; if there was a failure, the lines around it, since those after it may say why."""
        self._thread.join(1)
        return b"".join(self._last).decode("utf-8", "replace")

    def _read(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            if self._kept is not None and not self._kept.closed:
                self._kept.write(line)
                self._kept.flush()
            self._after_failure += self.failed
            if self._after_failure <= AFTER_FAILURE:
                self._last.append(line)
            if self._ready_at is None and self._says_ready(line):
                self._missing -= 1
                if self._missing == 0:
                    self._ready_at = time.monotonic()
                    self._known.set()
            if self._failure is not None and self._failure in line:
                self.failed = True
                self._known.set()
        self._known.set()


def until(holds: Callable[[], bool], timeout: float, what: str) -> float:
    """Wait until something holds; when it did (monotonic). Raises RuntimeError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {timeout:.0f} s until {what}, in vain")
        time.sleep(LOOK_S)
    return time.monotonic()


def wait_until_folded(settings: Settings) -> None:
    """Wait until everything in the topic is folded and audited. Raises RuntimeError."""
    ends = place.ends(settings, settings.topic)
    with psycopg.connect(settings.admin(), autocommit=True) as connection:

        def complete() -> bool:
            rows = connection.execute("select lane, audited from os_core.lanes").fetchall()
            return all(audited >= ends[lane] for lane, audited in rows)

        until(complete, FOLDED_S, "everything is folded and audited")


@contextlib.contextmanager
def live_load(settings: Settings, rate: float) -> Iterator[None]:
    """Append events at a steady rate from another process, until the end of the block."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=_append, args=(settings, rate, stop), daemon=True)
    process.start()
    time.sleep(1.0)  # until it has started to append
    try:
        yield
    finally:
        stop.set()
        process.join(STOP_S)
        process.kill()


def _append(settings: Settings, rate: float, stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    producer = place.producer(settings)
    load = events.day(10_000_000, 2_000)

    def send(_due: float) -> None:
        event = next(load)
        # Tenants of its own, so that it meets no work order of the load that was folded before.
        event = replace(event, tenant_id=f"live-{event.tenant_id}")
        producer.produce(settings.topic, encode_event(event), event.tenant_id.encode())
        producer.poll(0)

    while not stop.is_set():
        pacing.pace(rate, 0.5, send)
    producer.flush(10)
