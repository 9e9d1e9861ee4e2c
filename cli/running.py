"""A worker from its start to its end. If the certificates of its Kafka clients change, another one with new clients replaces it."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from confluent_kafka import KafkaException

from core_tables.cli.output import EXIT_OK
from core_tables.cli.starting import GRACE_S, end_by_force_after
from core_tables.consumer.audit_thread import AuditThread
from core_tables.consumer.worker import Worker
from core_tables.kafka.certificate_files import CertificateFiles
from core_tables.kafka.client_settings import KafkaSettings

_LOOK_EVERY_S: Final = 5.0
Opened = tuple[Worker, AuditThread | None]


class RunningWorker:
    """The worker of this process, in its main thread."""

    def __init__(self, log: Any, follow: Callable[[Worker, AuditThread | None], None]) -> None:
        """`follow` is called with each worker when it runs."""
        self._log = log
        self._follow = follow
        self._worker: Worker | None = None
        self._ending = False
        self._forced: threading.Timer | None = None

    def run(self, opened: Callable[[], Opened], kafka: KafkaSettings) -> None:
        """Run what `opened` returns until SIGTERM or SIGINT, or until it ends by itself; again after new certificates."""
        again = True
        while again and not self._ending:
            certificates = CertificateFiles(kafka)  # before the clients read them
            worker, audit_thread = opened()
            signal.signal(signal.SIGTERM, self._stop)
            signal.signal(signal.SIGINT, self._stop)
            changed = threading.Event()
            with self._running(worker, audit_thread), self._watching(certificates, worker, changed):
                worker.run()
            again = changed.is_set()

    @contextlib.contextmanager
    def _running(self, worker: Worker, audit_thread: AuditThread | None) -> Iterator[None]:
        self._worker = worker
        self._log.info("worker_started", topic=worker.topic.topic, audit=audit_thread is not None)
        if audit_thread is not None:
            audit_thread.start()
        self._follow(worker, audit_thread)
        finished = False
        try:
            yield
            finished = True
        finally:
            if audit_thread is not None:
                audit_thread.close(flush=finished)
            with contextlib.suppress(KafkaException):
                worker.close(clean=finished)
            if self._forced is not None:
                self._forced.cancel()
            self._worker = None
            self._log.info("worker_stopped", topic=worker.topic.topic, folded=worker.folded_records)

    def _stop(self, _signal: int, _frame: Any) -> None:
        self._ending = True
        end_by_force_after(GRACE_S, self._log)
        if self._worker is None:  # it is being replaced, which may have to wait for Kafka
            sys.exit(EXIT_OK)
        self._worker.stop()

    @contextlib.contextmanager
    def _watching(self, certificates: CertificateFiles, worker: Worker, changed: threading.Event) -> Iterator[None]:
        done = threading.Event()
        watch = threading.Thread(
            target=self._watch, args=(certificates, worker, changed, done), name="certificates", daemon=True
        )
        watch.start()
        try:
            yield
        finally:
            done.set()

    def _watch(
        self, certificates: CertificateFiles, worker: Worker, changed: threading.Event, done: threading.Event
    ) -> None:
        """Stop the worker when there are new certificates that clients can use."""
        while not done.wait(_LOOK_EVERY_S):
            if certificates.renewed(lambda cause: self._log.warning("certificates_unusable", cause=cause)):
                self._log.info("certificates_changed", topic=worker.topic.topic)
                changed.set()
                # With certificates that are valid no more, its clients may wait for a broker when they are closed.
                self._forced = end_by_force_after(GRACE_S, self._log)
                worker.stop()
                return
