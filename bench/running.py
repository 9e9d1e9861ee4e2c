"""Processes of a run that work beside the measurement, and end with it."""

import contextlib
import multiprocessing
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from typing import IO, Any

import psycopg
from confluent_kafka import Producer

from bench import events, pacing, place
from core_tables.cli.settings import Settings
from core_tables.schemas.wire import encode_event

READY_S = 60.0
STOP_S = 30.0
FOLDED_S = 900.0


@contextlib.contextmanager
def worker(settings: Settings, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that has opened every lane."""
    process = place.worker(settings, *arguments)
    with ended(process):
        wait_for_lines(process.stderr, b'"lane_opened"', settings.partitions)
        yield process


@contextlib.contextmanager
def ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Whatever happens inside, the process is gone afterwards."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_lines(lines: IO[bytes] | None, what: bytes, count: int) -> None:
    """Wait for lines of a process's output; the rest of it is read and forgotten, so that the process never blocks on it.

    Raises RuntimeError with the last lines when they do not come.
    """
    seen, kept = threading.Event(), list[bytes]()

    def read() -> None:
        found = 0
        for line in lines or ():
            if found < count:
                kept.append(line)
            found += what in line
            if found == count:
                seen.set()

    threading.Thread(target=read, daemon=True).start()
    if not seen.wait(READY_S):
        told = b"".join(kept[-5:]).decode("utf-8", "replace")
        raise RuntimeError(f"a process of the run did not get ready within {READY_S:.0f} s; it said:\n{told}")


def wait_until_folded(settings: Settings, timeout: float = FOLDED_S) -> None:
    """Wait until all that is in the topic is folded and audited. Raises RuntimeError."""
    ends, deadline = place.ends(settings, settings.topic), time.monotonic() + timeout
    with psycopg.connect(settings.admin(), autocommit=True) as connection:
        while True:
            rows = connection.execute("select lane, audited from os_core.lanes").fetchall()
            if all(audited >= ends[lane] for lane, audited in rows):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"not everything was folded and audited within {timeout:.0f} s")
            time.sleep(0.1)


@contextlib.contextmanager
def live_load(settings: Settings, rate: float) -> Iterator[None]:
    """Events at a steady rate from a process of its own, for as long as it is asked for."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=_append, args=(settings, rate, stop), daemon=True)
    process.start()
    time.sleep(1.0)  # the load is on when it has started
    try:
        yield
    finally:
        stop.set()
        process.join(STOP_S)
        process.kill()


def _append(settings: Settings, rate: float, stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    producer = Producer(client_config(settings))
    load = events.day(10_000_000, 2_000)

    def send(_due: float) -> None:
        event = next(load)
        # Tenants of its own, so that it meets no work order of the load that was folded before.
        event = event._replace(tenant_id=f"live-{event.tenant_id}")
        producer.produce(settings.topic, encode_event(event), event.tenant_id.encode())
        producer.poll(0)

    while not stop.is_set():
        pacing.pace(rate, 0.5, send)
    producer.flush(10)


def client_config(settings: Settings, **more: Any) -> dict[str, Any]:
    """A producer set up as the ledger's is."""
    return {
        "bootstrap.servers": settings.kafka_servers(),
        "log_level": 3,
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "linger.ms": 2,
        "compression.type": "lz4",
        **more,
    }
