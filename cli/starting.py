"""How a worker starts when what it needs is not there yet, and how it ends when what it waits for does not answer."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from core_tables.cli.output import EXIT_FORCED
from core_tables.schemas.reasons import CoreTablesError, SetupError, UnavailableError

# Below the usual grace period of 30 s, and above every wait of a batch on Postgres.
GRACE_S: Final = 25.0
_MAX_PAUSE_S: Final = 5.0
_T = TypeVar("_T")


def started(
    start: Callable[[], _T], timeout_s: float, log: Any, waits: Callable[[str], None] = lambda _cause: None
) -> _T:
    """What `start` returns, tried again while Kafka or Postgres does not answer or `init` has not been run.

    `waits` is called with what is waited for.
    After `timeout_s` seconds, and at once for what waiting does not change, raises what `start` raised.
    """
    deadline, pause = time.monotonic() + timeout_s, 0.5
    while True:
        try:
            return start()
        except CoreTablesError as error:
            left = deadline - time.monotonic()
            if left <= 0 or not _may_come(error):
                raise
            waits(error.message)
            log.warning("waiting_to_start", cause=error.message, timeout_s=round(left, 1))
            time.sleep(min(pause, left))
            pause = min(2 * pause, _MAX_PAUSE_S)


def _may_come(error: CoreTablesError) -> bool:
    return isinstance(error, UnavailableError) or (isinstance(error, SetupError) and error.subject == "database")


def end_by_force_after(seconds: float, log: Any) -> threading.Timer:
    """End this process in any case, even if it hangs in a call that no signal interrupts. A worker may be killed at any point.

    The timer can be cancelled.
    """

    def end() -> None:
        log.warning("worker_ended_by_force", after_s=seconds)
        os._exit(EXIT_FORCED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer
