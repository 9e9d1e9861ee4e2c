"""The newest status of the lanes, asked for once for all browsers."""

import threading
import time
from collections.abc import Callable
from typing import Final

from core_tables.consumer.lane_status import LedgerStatus
from core_tables.schemas.reasons import CoreTablesError

_FRESH_S: Final = 1.0


class LatestStatus:
    """A status that is at most a second old. Thread-safe.

    Of those who ask at once, one asks the servers, and all get its answer or its error: while a server does not answer, as many
    browsers as there are wait once, and not one after the other.
    """

    def __init__(self, ask: Callable[[], LedgerStatus]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._answered_at: float | None = None
        self._answer: LedgerStatus | CoreTablesError

    def get(self) -> LedgerStatus:
        """The status. Raises what asking raises."""
        came_at = time.monotonic()
        with self._lock:
            if self._answered_at is None or came_at - self._answered_at > _FRESH_S:
                try:
                    self._answer = self._ask()
                except CoreTablesError as error:
                    self._answer = error
                self._answered_at = time.monotonic()
            if isinstance(self._answer, CoreTablesError):
                raise self._answer
            return self._answer
