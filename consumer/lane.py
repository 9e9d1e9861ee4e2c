"""What a worker holds in memory about a lane it was assigned: all of it is dropped when in doubt."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from core_tables.projection.fold.needs import ANY_KEY, Known, key_bits
from core_tables.projection.fold.values import Changed, KnownState, Loaded, WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder, settled
from core_tables.schemas.identity import partition_of
from core_tables.schemas.reasons import CoreTablesError

MIN_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 10.0


class StateCache:
    """The newest states of a lane's work orders, least recently used dropped first; true while the guard holds.

    Beside each state, which idempotency keys its ledger rows may have (fold.key_bits), where all of them are known.
    """

    def __init__(self) -> None:
        self._states: dict[WorkOrderKey, KnownState] = {}

    def get(self, key: WorkOrderKey) -> KnownState | None:
        """The state of a work order and the bits of its keys, if it is in memory."""
        return self._states.get(key)

    def keep(self, key: WorkOrderKey, state: WorkOrder, bits: int) -> None:
        """Remember a state as the most recently used."""
        self._states.pop(key, None)
        self._states[key] = KnownState(state=settled(state), key_bits=bits)

    def __len__(self) -> int:
        return len(self._states)

    def shrink(self, limit: int) -> None:
        """Forget the least recently used beyond `limit`."""
        for key in list(islice(self._states, max(0, len(self._states) - limit))):
            del self._states[key]


@dataclass
class Lane:
    """A lane that this worker was assigned. Offsets are "next to do"."""

    lane: int
    partition: int
    opened: bool = False
    applied: int = 0
    epoch: int = 0
    audited: int = 0
    next_offset: int = 0
    gaps: dict[int, int] = field(default_factory=dict)  # where the log said it has none: the next offset that it has
    retry_at: float = 0.0
    backoff_s: float = MIN_BACKOFF_S
    stopped: CoreTablesError | None = None
    touched_at: float = 0.0
    states: StateCache = field(default_factory=StateCache)


def remember(lanes: Mapping[int, Lane], partitions: int, known: Known, changed: Changed, loaded: Loaded) -> None:
    """Keep the states of a batch in memory, each with its lane, by partition, and the bits of the keys that are bound."""
    bound: dict[WorkOrderKey, int] = {}
    for tenant_id, work_order_id, idempotency_key in loaded.firsts:
        key = (tenant_id, work_order_id)
        bound[key] = bound.get(key, 0) | key_bits(idempotency_key)
    for key, state in loaded.states.items():
        if state is None:
            continue
        found = known.get(key)
        # Bits begin with the first event: of a work order that was there before, Postgres may hold more keys.
        before, _ = changed.get(key, (state, state))
        bits = found.key_bits if found is not None else 0 if before is None else ANY_KEY
        tenant_id, _ = key
        lanes[partition_of(tenant_id.encode(), partitions)].states.keep(key, state, bits | bound.get(key, 0))


def forget_some(lanes: Mapping[int, Lane], touched: Iterable[int], limit: int) -> None:
    """Keep the states of all lanes within `limit`; the lanes that a batch touched, by partition, give up alike."""
    held = sum(len(lane.states) for lane in lanes.values())
    if held > limit:
        for partition in touched:
            states = lanes[partition].states
            states.shrink(len(states) * limit // held)
