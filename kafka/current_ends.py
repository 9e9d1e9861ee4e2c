"""Where logs end now, for those who ask again and again."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

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
