"""Where the lanes are: the topics of the ledger, the lane of a tenant, and how far a lane is folded."""

from collections.abc import Collection, Iterable

from core_tables.projection.postgres.keys import LaneName
from core_tables.projection.postgres.lane_pools import Pools
from core_tables.projection.postgres.lanes import LanePosition, newest_topic, unknown_lane
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.tenant_reads import TenantReads
from core_tables.schemas.identity import lane_of, partition_of
from core_tables.schemas.reasons import LaneStoppedError
from core_tables.schemas.topic import LedgerTopic


class LaneReads(TenantReads):
    """The reads that are of no tenant."""

    def __init__(self, pools: Pools) -> None:
        super().__init__(pools)
        self._topic: LedgerTopic | None = None

    def by_database(self, lanes: Iterable[int]) -> list[list[int]]:
        """The lanes, those of each database together."""
        found: dict[ReadPool, list[int]] = {}
        for lane in lanes:
            found.setdefault(self._pools.of_lane(lane), []).append(lane)
        return list(found.values())

    def applied_of(self, lanes: Collection[int]) -> dict[int, int]:
        """By lane, how far it is folded: the next offset to do."""
        return {lane: row.applied for lane, row in self._positions(lanes).items()}

    def registered_fingerprints(self, lanes: Collection[int]) -> dict[int, Collection[str]]:
        """By lane, the writer schemas that are registered for it (contract, section 2, "Schemas")."""
        return {lane: row.schemas.keys() for lane, row in self._positions(lanes).items()}

    def topics(self) -> list[LedgerTopic]:
        """The topics of the ledger, oldest first."""
        return self._pools.topics(self._deadline)

    def lane_of_tenant(self, tenant_id: str) -> int:
        """The lane that holds a tenant's newest records. Raises SetupError if the database knows no topic."""
        if self._topic is None:
            self._topic = newest_topic(self.topics())
        return self._topic.first_lane + partition_of(tenant_id.encode(), self._topic.partitions)

    def _positions(self, lanes: Collection[int]) -> dict[int, LanePosition]:
        found: dict[int, LanePosition] = {}
        for first, *others in self.by_database(lanes):
            with self._pools.of_lane(first).transaction(self._deadline) as pipeline:
                answer = pipeline.fetch(LanePosition, "load_lanes", [LaneName(lane) for lane in (first, *others)])
            found |= {row.lane: row for row in answer.rows}
        for lane in lanes:
            if lane not in found:
                raise unknown_lane(lane)
        return found


def missing_outcome(event_id: int) -> LaneStoppedError:
    """The error of a record that was folded but has no outcome that its reader can see."""
    return LaneStoppedError(
        f"record {event_id} of lane {lane_of(event_id)} was folded, but no outcome of it belongs to this tenant; "
        "it may have been misrouted: an operator finds it with `core-tables refused`"
    )
