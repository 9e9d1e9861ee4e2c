"""Waiting until something holds of a current record: what to look at, and how long to wait before the next look."""

import time
from collections.abc import Callable
from typing import Final

from core_tables.projection.postgres.read_types import CurrentRecord
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas.reasons import UnavailableError

# A failover may take back what a wake-up announced; then nobody is woken until the lane is further than it was before.
_LOOK_AGAIN_S: Final = 1.0


class RecordWait:
    """One wait. Between two looks its owner waits until the lane is folded beyond `applied`, or until `next_look`."""

    def __init__(
        self, reads: Reads, tenant_id: str, work_order_id: str, holds: Callable[[CurrentRecord], bool], deadline: float
    ) -> None:
        self._reads = reads.until(deadline)
        self._of = (tenant_id, work_order_id)
        self._holds = holds
        self._deadline = deadline
        self.lane: Final = self._reads.lane_of_tenant(tenant_id)
        self.applied = 0  # not known yet
        self.found: CurrentRecord | None = None

    @property
    def next_look(self) -> float:
        """When to look again at the latest, in monotonic seconds."""
        return min(self._deadline, time.monotonic() + _LOOK_AGAIN_S)

    def look(self) -> bool:
        """Read the record. Whether the wait is over: it holds, which sets `found`, or the deadline has passed.

        Raises UnavailableError if Postgres still does not answer at the deadline.
        """
        late = time.monotonic() >= self._deadline
        try:
            if self.applied == 0:
                self.applied = self._reads.applied_of([self.lane])[self.lane]
            record = self._reads.current(*self._of)
        except UnavailableError:
            if late:
                raise
            return False
        if record is not None and self._holds(record):
            self.found = record
        return self.found is not None or late

    def folded(self, applied: int) -> None:
        """Note how far the lane is known to be folded."""
        self.applied = max(self.applied, applied)
