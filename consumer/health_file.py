"""Whether a worker is alive and ready: a file that it writes once a second.

The worker's own loop writes it. A worker that waits for Postgres or Kafka is alive but not ready: restarting it would not help.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from core_tables.consumer.lane import Lane
from core_tables.consumer.worker_settings import WorkerSettings


class Health(NamedTuple):
    """What a worker says about itself.

    Attributes:
        opened: how many of its lanes are folded.
        waiting: how many wait to be opened or reopened.
        stopped: how many have stopped.
        in_group: whether the group has assigned it lanes, or none, and has not taken them away by a timeout since.
        audit_silent_s: seconds since the audit thread last gave a sign of life; 0 if the worker has none.
    """

    opened: int
    waiting: int
    stopped: int
    in_group: bool
    audit_silent_s: float

    @property
    def alive(self) -> bool:
        """Whether the audit thread runs; that the fold does is said by the age of the file."""
        return self.audit_silent_s <= WorkerSettings.stands_after_s

    @property
    def ready(self) -> bool:
        """Whether the worker is in its group and none of its lanes waits. It may have no lane."""
        return self.in_group and self.waiting == 0


def health_of(lanes: Iterable[Lane], *, in_group: bool, audit_silent_s: float) -> Health:
    """The health of a worker with these lanes."""
    states = ["opened" if lane.opened else "waiting" if lane.stopped is None else "stopped" for lane in lanes]
    opened, waiting, stopped = (states.count(state) for state in ("opened", "waiting", "stopped"))
    return Health(opened, waiting, stopped, in_group, round(audit_silent_s, 1))


def write_health(path: Path, health: Health) -> None:
    """Replace the file as a whole, so that nobody reads half of it."""
    staged = path.with_name(path.name + ".new")
    staged.write_text(json.dumps(health._asdict()), "utf-8")
    staged.replace(path)


def read_health(path: Path) -> tuple[Health, float]:
    """What a worker wrote last, and how many seconds ago. Raises FileNotFoundError."""
    written = path.stat().st_mtime
    return Health(**json.loads(path.read_text("utf-8"))), max(0.0, time.time() - written)
