"""The Kafka client of a ledger: it sends, and serves the broker's answers to all who wait for one."""

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from confluent_kafka import KafkaError, Message, Producer

from core_tables.projection.postgres.forks import reset_after_fork
from core_tables.schemas.reasons import ClosedError

_SERVE_S: Final = 0.05
Delivered = Callable[[KafkaError | None, Message], None]


class _Awaited(Protocol):
    @property
    def delivered(self) -> bool: ...


class Deliveries:
    """Thread-safe. A forked process opens a client of its own at its first send: the parent's threads do not run there.

    So does one whose client gave up a record, once that client has nothing left to send: it may be lost (lost_clients.py).
    """

    def __init__(self, open_producer: Callable[[], Producer]) -> None:
        self._open_producer = open_producer
        self._producer: Producer | None = open_producer()
        self._inherited: list[Producer | None] = []
        self._closed = self._gave_up = False
        self._begin()
        reset_after_fork(self)

    def send(
        self,
        topic: str,
        value: bytes,
        key: bytes,
        partition: int,
        headers: list[tuple[str, str | bytes | None]] | None,
        on_delivery: Delivered,
    ) -> bool:
        """Queue a record; False, and nothing is queued, if the client's queue is full. Raises ClosedError."""
        producer = self._required_producer()
        try:
            producer.produce(topic, value, key, partition, on_delivery=on_delivery, headers=headers)
        except BufferError:
            return False
        self._answers(producer.poll, 0)
        return True

    def serve(self, seconds: float) -> None:
        """Serve answers until one has come, or for so long."""
        self._answers(self._required_producer().poll, seconds)

    def wait(self, receipt: _Awaited, deadline: float) -> bool:
        """Serve answers until that to a receipt has come, or until `deadline` (monotonic seconds).

        False if it cannot come any more, since an interrupt took it.

        One thread polls at a time and notifies the others. If all of them polled, a thread whose answer was served by another
        one would wait in `poll` for nothing.
        """
        while not receipt.delivered and time.monotonic() < deadline:
            if self._interrupted and not len(self._required_producer()):
                return receipt.delivered
            if self._serving.acquire(blocking=False):
                try:
                    self.serve(_SERVE_S)
                finally:
                    self._serving.release()
                with self._served:
                    self._served.notify_all()
            else:
                with self._served:
                    if not receipt.delivered:
                        self._served.wait(_SERVE_S)
        return True

    def flush(self, timeout: float) -> int:
        """Wait until the broker has answered for all; return how many are still unanswered after `timeout` seconds."""
        return 0 if self._producer is None else self._answers(self._producer.flush, timeout)

    def give_up(self) -> None:
        """Note that the client gave up a record, since no broker answered it in time."""
        self._gave_up = True

    def close(self) -> None:
        """Let nothing more be sent."""
        self._closed = True

    def after_fork(self) -> None:
        """Start over in a child process."""
        self._inherited.append(self._producer)
        self._producer = None
        self._begin()

    def _answers(self, serve: Callable[[float], int], seconds: float) -> int:
        """Let the client call back. Ctrl-C, or whatever a signal handler raises, may end a callback before it has noted its answer.

        If it ends the callback for errors, the client loses what was raised, and raises SystemError.
        """
        try:
            return serve(seconds)
        except SystemError as error:
            self._interrupted = True
            raise KeyboardInterrupt from error
        except BaseException:
            self._interrupted = True
            raise

    def _begin(self) -> None:
        self._interrupted = False
        self._opening = threading.Lock()
        self._serving = threading.Lock()
        self._served = threading.Condition()

    def _required_producer(self) -> Producer:
        if self._closed:
            raise ClosedError("this ledger is closed, and nothing was sent; connect a new one")
        if self._producer is None or self._is_spent(self._producer):
            with self._opening:
                if self._producer is None or self._is_spent(self._producer):
                    self._producer, self._gave_up = self._open_producer(), False
        return self._producer

    def _is_spent(self, producer: Producer) -> bool:
        # Not before all of its records are delivered or given up: no later record is to overtake an earlier one.
        return self._gave_up and not self._answers(producer.flush, 0)
