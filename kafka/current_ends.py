"""Where logs end now, for those who ask again and again."""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaException

from core_tables.kafka.log import LogEnd
from core_tables.schemas.reasons import CoreTablesError

Ends = Mapping[int, LogEnd]  # by partition
KEEP_S: Final = 5.0


class CurrentEnds:
    """The ends of logs, asked for when somebody wants to know; none while the broker does not answer."""

    def __init__(self, ask: Callable[[], Ends], clock: Callable[[], float] = time.monotonic) -> None:
        """`ask` may raise our errors. It is called every KEEP_S seconds at most, so that no scrape waits for the one before."""
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._known: Ends = {}
        self._asked_at: float | None = None

    def __call__(self) -> Ends:
        """The ends as they are now, or were up to KEEP_S seconds ago."""
        with self._lock:
            if self._asked_at is None or self._clock() >= self._asked_at + KEEP_S:
                try:
                    self._known = self._ask()
                except CoreTablesError:
                    self._known = {}
                self._asked_at = self._clock()
            return self._known


class EndsAnswer(NamedTuple):
    """By partition, where a log ended, if the broker said so, and when it was asked. The logs may have grown since."""

    asked_at: float
    ends: Mapping[int, int]


class AskedEnds:
    """Asks where logs end without waiting for the answer. One question is open at a time."""

    def __init__(self, ask: Callable[[], Mapping[int, "Future[Any]"]], clock: Callable[[], float]) -> None:
        """`ask` sends the question; by partition, the future has an `offset`, or raises KafkaException."""
        self._ask = ask
        self._clock = clock
        self._open: Mapping[int, Future[Any]] | None = None
        self._asked_at = 0.0

    def ask(self) -> None:
        """Send a question, unless one is open: a broker that hangs is not asked again and again."""
        if self._open is None:
            self._asked_at = self._clock()
            with contextlib.suppress(KafkaException):
                self._open = self._ask()

    def answer(self) -> EndsAnswer | None:
        """The answer to the open question, once it is there."""
        if self._open is None or not all(future.done() for future in self._open.values()):
            return None
        answers, self._open = self._open, None
        ends = {partition: future.result().offset for partition, future in answers.items() if not future.exception()}
        return EndsAnswer(self._asked_at, ends)
