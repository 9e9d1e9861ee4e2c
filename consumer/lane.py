"""What a worker holds in memory about a lane it was assigned: all of it is dropped when in doubt."""

from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from core_tables.projection.fold import WorkOrderKey
from core_tables.projection.work_order import WorkOrder, settled
from core_tables.schemas.reasons import CoreTablesError

MIN_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 10.0


class StateCache:
    """The newest states of a lane's work orders, least recently used dropped first; true while the guard holds.

    Beside each state, which idempotency keys its ledger rows may have (fold.key_bits), where all of them are known.
    """

    def __init__(self) -> None:
        self._held: dict[WorkOrderKey, tuple[WorkOrder, int]] = {}

    def get(self, key: WorkOrderKey) -> tuple[WorkOrder, int] | None:
        """The state of a work order and the bits of its keys, if it is in memory."""
        return self._held.get(key)

    def keep(self, key: WorkOrderKey, state: WorkOrder, bits: int) -> None:
        """Remember a state as the most recently used."""
        self._held.pop(key, None)
        self._held[key] = (settled(state), bits)

    def shrink(self, limit: int) -> None:
        """Forget the least recently used beyond `limit`."""
        for key in list(islice(self._held, max(0, len(self._held) - limit))):
            del self._held[key]


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
