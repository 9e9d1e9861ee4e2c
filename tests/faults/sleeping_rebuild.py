"""A rebuild that stops, as SIGSTOP would stop it, at a named point of a chunk: `sleeping_rebuild POINT HOW_OFTEN`.

Its transactions end after 6 s instead of 60, which spares the tests waiting; longer than a worker waits for a lock.
"""

import os
import signal
import sys

from core_tables.cli import verify
from core_tables.cli.main import main

from .dying_rebuild import POINTS
from .dying_worker import plant


def fall_asleep() -> None:
    """Stop until somebody sends SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    plant(POINTS[sys.argv[1]], int(sys.argv[2]), fall_asleep)
    verify.REBUILD_TRANSACTION_MS = 6_000
    sys.argv[1:] = ["rebuild"]
    main()
