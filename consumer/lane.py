"""What a worker holds in memory about a lane it was assigned: all of it is dropped when in doubt."""

from dataclasses import dataclass, field
from typing import Final

from core_tables.projection.fold import WorkOrderKey
from core_tables.projection.work_order import WorkOrder, settled
from core_tables.schemas.reasons import CoreTablesError

MIN_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 10.0


class StateCache:
    """The newest states of a lane's work orders, least recently used dropped first; true while the guard holds."""

    def __init__(self) -> None:
        self._states: dict[WorkOrderKey, WorkOrder] = {}

    def get(self, key: WorkOrderKey) -> WorkOrder | None:
        """The state of a work order, if it is in memory."""
        return self._states.get(key)

    def keep(self, states: dict[WorkOrderKey, WorkOrder | None], limit: int) -> None:
        """Remember the states of a batch as the most recently used; forget the oldest beyond `limit`."""
        held = self._states
        for key, state in states.items():
            if state is not None:
                held.pop(key, None)
                held[key] = settled(state)
        for key in list(held)[: max(0, len(held) - limit)]:
            del held[key]


@dataclass
class Lane:
    """A lane that this worker was assigned. Offsets are "next to do"."""

    lane: int
    partition: int
    opened: bool = False
    applied: int = 0
    revision: int = 0
    floor: int = 0
    next_offset: int = 0
    hole: tuple[int, int] | None = None  # offsets before and after a hole that the log was asked about
    retry_at: float = 0.0
    backoff_s: float = MIN_BACKOFF_S
    stopped: CoreTablesError | None = None
    touched_at: float = 0.0
    states: StateCache = field(default_factory=StateCache)
