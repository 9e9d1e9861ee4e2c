"""What a worker has in memory about a lane it was assigned. When the lane is in doubt, all of it is dropped."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

from core_tables.consumer.caught_up import CaughtUp
from core_tables.projection.fold.needs import ANY_KEY, Known, key_bits
from core_tables.projection.fold.values import Changed, KnownState, Loaded, WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder, settled
from core_tables.schemas.identity import partition_of
from core_tables.schemas.reasons import CoreTablesError
from core_tables.schemas.wire import Schemas

MIN_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 10.0


class StateCache:
    """The most recent states of a lane's work orders, the least recently used dropped first. They are true while the guard holds.

    Each state comes with the bits of the idempotency keys that its ledger rows may have (key_bits in fold/needs.py).
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


class EndOfLog(NamedTuple):
    """Where a log ends, and from which offset on it has no record: they differ if it ends with a gap."""

    empty_from: int
    end: int


class Trouble(NamedTuple):
    """Why something does not continue, and since when, in seconds of the worker's clock."""

    cause: str
    since: float


@dataclass
class Lane:
    """A lane that this worker was assigned. Offsets mean "next to do"; moments are seconds of the worker's clock.

    `behind` and `audit_behind`: how long ago the fold, and the audit, had all that there was. `since`: when it was
    assigned, opened, reopened or stopped last. `doubt`: why it was reopened, from then until it has folded a
    batch or is at the end of its log; a lane that is opened and fails again and again is in doubt all the time.
    """

    lane: int
    partition: int
    behind: CaughtUp = field(default_factory=lambda: CaughtUp(0.0))
    audit_behind: CaughtUp = field(default_factory=lambda: CaughtUp(0.0))
    since: float = 0.0
    doubt: Trouble | None = None
    opened: bool = False
    applied: int = 0
    epoch: int = 0
    audited: int = 0
    next_offset: int = 0
    gaps: dict[int, int] = field(
        default_factory=dict
    )  # an offset where the log has no record: the next one where it has
    log_end: EndOfLog | None = None
    unread_at: int | None = None  # where the client could not read a record
    opened_at: float = 0.0
    retry_at: float = 0.0
    backoff_s: float = MIN_BACKOFF_S
    stopped: CoreTablesError | None = None
    drains: bool = False  # it stopped while it was open: its audit continues, and its row is still compared
    touched_at: float = 0.0
    schemas: Schemas = field(default_factory=dict)  # those that are registered; true while the guard holds
    states: StateCache = field(default_factory=StateCache)


def number_of(lane: Lane) -> int:
    """Its number."""
    return lane.lane


def reached(lane: Lane) -> int:
    """The offset below which nothing is left to be folded: `applied`, or the end of a log that has no record in between."""
    end = lane.log_end
    return lane.applied if end is None or not end.empty_from <= lane.applied <= end.end else end.end


def remember(lanes: Mapping[int, Lane], partitions: int, known: Known, changed: Changed, loaded: Loaded) -> None:
    """Keep the states of a batch in memory, each in its lane, with the bits of the keys that are bound."""
    bound: dict[WorkOrderKey, int] = {}
    for tenant_id, work_order_id, idempotency_key in loaded.firsts:
        key = (tenant_id, work_order_id)
        bound[key] = bound.get(key, 0) | key_bits(idempotency_key)
    for key, state in loaded.states.items():
        if state is None:
            continue
        found = known.get(key)
        # Bits are complete only from the first event on: of an older work order, Postgres may have more keys.
        before, _ = changed.get(key, (state, state))
        bits = found.key_bits if found is not None else 0 if before is None else ANY_KEY
        tenant_id, _ = key
        lanes[partition_of(tenant_id.encode(), partitions)].states.keep(key, state, bits | bound.get(key, 0))


def forget_some(lanes: Mapping[int, Lane], touched: Iterable[int], limit: int) -> None:
    """Keep the states of all lanes within `limit`; the lanes of a batch (`touched`: partitions) each give up the same share."""
    held = sum(len(lane.states) for lane in lanes.values())
    if held > limit:
        for partition in touched:
            states = lanes[partition].states
            states.shrink(len(states) * limit // held)
