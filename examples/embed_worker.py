"""Run a worker inside your own program, instead of starting `core-tables worker`.

    python examples/embed_worker.py

It folds the ledger until Ctrl-C or SIGTERM. What it imports is not part of the public surface, so it may change with a
release: pin the version of Core Tables, or start the command as a process of its own.
"""

import signal

from core_tables.cli import worker_wiring
from core_tables.cli.log_lines import logger
from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.settings.environment import Settings


def main() -> None:
    """Fold until a signal says to stop."""
    log = logger()  # JSON lines on standard error; any structlog logger will do
    settings = WorkerSettings(batch_size=2000)
    worker, audit = worker_wiring.worker(Settings(), settings, audit=True, log=log)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: worker.stop())  # another thread may call stop() too
    if audit is not None:
        audit.start()
    finished = False
    try:
        worker.run()  # returns after stop(), and raises if it cannot continue
        finished = True
    finally:
        if audit is not None:
            audit.close(flush=finished)  # publishes the outcomes that are still waiting
        worker.close()
        print(f"folded {worker.folded_records} records")


if __name__ == "__main__":
    main()
