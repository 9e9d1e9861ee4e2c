"""The Kafka client of a ledger: it sends, and serves the broker's answers to all who wait for one.

The client itself gives no record up. If it did, it would give new numbers to the records behind that one, also to those that the
broker may have written already, and these would be written twice (rd_kafka_idemp_drain_epoch_bump in librdkafka 2.16). So the
client is discarded, with every record that it has no answer to.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from confluent_kafka import KafkaError, Message, Producer

from core_tables.kafka.clients import DELIVERY_TIMEOUT_S
from core_tables.projection.postgres.forks import reset_after_fork
from core_tables.schemas.reasons import ClosedError

_SERVE_S: Final = 0.05
_LOOK_EVERY_S: Final = 0.25
_LAST_ANSWERS_S: Final = 0.5
Delivered = Callable[[KafkaError | None, Message], None]


class _Awaited(Protocol):
    @property
    def delivered(self) -> bool: ...


class Deliveries:
    """Thread-safe. A forked process opens a client of its own at its first send: the parent's threads do not run there.

    So does one whose client was not answered for a record in time. It may be lost, too (lost_clients.py).
    """

    def __init__(
        self,
        open_producer: Callable[[], Producer],
        timeout_s: float = DELIVERY_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout_s`: how long a record may be without an answer."""
        self._open_producer = open_producer
        self._timeout_s = timeout_s
        self._clock = clock
        self._producer: Producer | None = open_producer()
        self._inherited: list[Producer | None] = []
        self._closed = False
        self._begin()
        reset_after_fork(self)

    def send(
        self,
        awaited: _Awaited,
        topic: str,
        value: bytes,
        key: bytes,
        partition: int,
        headers: list[tuple[str, str | bytes | None]] | None,
        on_delivery: Delivered,
    ) -> bool:
        """Queue a record; False, and nothing is queued, if the client's queue is full. Raises ClosedError.

        Its time runs until `answered` is called with `awaited`.
        """
        now = self._clock()
        with self._sending:
            producer = self._required_producer()
            self._unanswered[awaited] = now
            try:
                producer.produce(topic, value, key, partition, on_delivery=on_delivery, headers=headers)
            except BufferError:
                del self._unanswered[awaited]
                return False
        self._answers(producer.poll, 0)
        self._look_for_overdue(now)
        return True

    def answered(self, awaited: _Awaited) -> None:
        """Note that the broker's answer to a record has come."""
        self._unanswered.pop(awaited, None)

    def serve(self, seconds: float) -> None:
        """Serve answers until one has come, or for so long."""
        self._answers(self._required_producer().poll, seconds)
        self._look_for_overdue(self._clock())

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
        deadline = time.monotonic() + timeout
        while (producer := self._producer) is not None:
            left = deadline - time.monotonic()
            unanswered = self._answers(producer.flush, max(0.0, min(left, _LOOK_EVERY_S)))
            if not unanswered or left <= 0:
                return unanswered
            self._look_for_overdue(self._clock())
        return 0

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
        self._sending = threading.RLock()  # a signal handler may append, too
        self._serving = threading.Lock()
        self._served = threading.Condition()
        self._unanswered: dict[_Awaited, float] = {}  # when each was sent, in the order of sending
        self._next_look = 0.0

    def _required_producer(self) -> Producer:
        if self._closed:
            raise ClosedError("this ledger is closed, and nothing was sent; connect a new one")
        producer = self._producer
        if producer is None:
            with self._sending:
                producer = self._producer
                if producer is None:
                    self._producer = producer = self._open_producer()
        return producer

    def _look_for_overdue(self, now: float) -> None:
        """Discard the client if it was not answered for a record in time: no later record is to overtake an earlier one."""
        if now < self._next_look:
            return
        with self._sending:
            self._next_look = now + _LOOK_EVERY_S
            producer = self._producer
            if producer is None or not self._is_overdue(producer, now):
                return
            self._producer, self._unanswered = None, {}
            self._answers(producer.flush, _LAST_ANSWERS_S)  # what other brokers take is known in a moment
            producer.purge()
            self._answers(producer.flush, _LAST_ANSWERS_S)

    def _is_overdue(self, producer: Producer, now: float) -> bool:
        if not len(producer):
            self._unanswered.clear()  # an interrupt may have kept an answer from being noted
        # Copied at once, since another thread may note an answer meanwhile.
        oldest = next(iter(list(self._unanswered.values())), None)
        return oldest is not None and now >= oldest + self._timeout_s
