"""Runs the audit emitter in a thread, and opens and releases its producers in others."""

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from core_tables.consumer.audit_emitter import PER_TRANSACTION, AuditEmitter
from core_tables.consumer.audit_queue import AuditQueue, LaneQueue
from core_tables.kafka.clients import REQUEST_TIMEOUT_S

CLOSE_TIMEOUT_S: Final = 5.0
GATHER_S: Final = 0.5
MAX_PAUSE_S: Final = 0.05
FAILED_PAUSE_S: Final = 5.0


class AuditThread:
    """Runs an emitter in a thread of its own."""

    def __init__(self, queue: AuditQueue, emitter: AuditEmitter, log: Any) -> None:
        self._queue = queue
        self._emitter = emitter
        self._log = log
        self._closing = threading.Event()
        self._loop = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._loop.start()

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._loop.is_alive()

    def close(self, *, flush: bool) -> None:
        """With `flush`, emit what is queued for at most 5 s; then end the thread."""
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        while flush and self._loop.is_alive() and not self._queue.empty() and time.monotonic() < deadline:
            time.sleep(0.01)
        self._closing.set()
        self._loop.join(REQUEST_TIMEOUT_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._turn()
            except Exception:  # a defect of ours, or no memory is left; a thread that ended would audit nothing, unseen
                self._log.exception("audit_turn_failed", pause_s=FAILED_PAUSE_S)
                self._emitter.close()
                self._closing.wait(FAILED_PAUSE_S)
        self._emitter.close()

    def _turn(self) -> None:
        # Nobody waits for an outcome here, and a transaction costs the same for one as for many: let some gather. The lanes
        # take turns, because the transactions of all lanes in a row delayed appends and folds by 20 ms.
        many = self._queue.size() >= PER_TRANSACTION
        lanes = self._emitter.step(most=None if many else 1)
        if not many or not lanes:
            self._closing.wait(min(MAX_PAUSE_S, GATHER_S / max(1, lanes)))


def for_each_in_threads(run: Callable[[LaneQueue], object], queues: list[LaneQueue]) -> None:
    """Run a function for all lanes at the same time, and wait for the last."""
    with ThreadPoolExecutor(len(queues), thread_name_prefix="audit-open") as pool:
        list(pool.map(run, queues))


def release_in_background(producer: Producer) -> None:
    """Release a producer in a thread: closing one that was fenced may take as long as its transaction."""
    thread = threading.Thread(target=_purge, args=(producer,), daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the machine has no thread left
        _purge(producer)


def _purge(producer: Producer) -> None:
    """Drop what the producer holds, and serve the reports, which frees the callbacks; its last reference closes it."""
    with contextlib.suppress(KafkaException, RuntimeError):
        producer.purge()
        producer.poll(0)
