"""Whether a worker is alive and ready: a file that it writes once a second.

The worker's own loop writes it. A worker that waits for Postgres or Kafka is alive but not ready: restarting it would not help.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from core_tables.consumer.lane import Lane


class Health(NamedTuple):
    """How many of the assigned lanes are folded, wait to be opened or reopened, and have stopped."""

    opened: int
    waiting: int
    stopped: int

    @property
    def ready(self) -> bool:
        """Whether no lane waits. A worker that was assigned no lane is ready."""
        return self.waiting == 0


def write_health(path: Path, lanes: Iterable[Lane]) -> None:
    """Replace the file as a whole, so that nobody reads half of it."""
    states = ["opened" if lane.opened else "waiting" if lane.stopped is None else "stopped" for lane in lanes]
    health = Health(*(states.count(name) for name in Health._fields))
    staged = path.with_name(path.name + ".new")
    staged.write_text(json.dumps(health._asdict()), "utf-8")
    staged.replace(path)


def read_health(path: Path) -> tuple[Health, float]:
    """What a worker wrote last, and how many seconds ago. Raises FileNotFoundError."""
    written = path.stat().st_mtime
    return Health(**json.loads(path.read_text("utf-8"))), max(0.0, time.time() - written)
