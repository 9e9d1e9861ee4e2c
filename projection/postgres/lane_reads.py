"""Where the lanes are: the topics of the ledger, the lane of a tenant, and how far a lane is folded."""

from collections.abc import Collection

from core_tables.projection.postgres.keys import LaneName
from core_tables.projection.postgres.lanes import LanePosition, newest_topic, unknown_lane
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.registrations import RegisteredSchema
from core_tables.projection.postgres.tenant_reads import TenantReads
from core_tables.schemas.identity import lane_of, partition_of
from core_tables.schemas.reasons import LaneStoppedError
from core_tables.schemas.topic import LedgerTopic


class LaneReads(TenantReads):
    """The reads that are of no tenant."""

    def __init__(self, pool: ReadPool) -> None:
        super().__init__(pool)
        self._topic: LedgerTopic | None = None

    def applied_of(self, lanes: Collection[int]) -> dict[int, int]:
        """By lane, how far it is folded: the next offset to do."""
        with self._pool.transaction(self._deadline) as pipeline:
            answer = pipeline.fetch(LanePosition, "load_lanes", [LaneName(lane) for lane in lanes])
        applied = {row.lane: row.applied for row in answer.rows}
        for lane in lanes:
            if lane not in applied:
                raise unknown_lane(lane)
        return applied

    def topics(self) -> list[LedgerTopic]:
        """The topics of the ledger, oldest first."""
        with self._pool.transaction(self._deadline) as pipeline:
            answer = pipeline.fetch(LedgerTopic, "load_topics")
        return answer.rows

    def registered_fingerprints(self, lane: int) -> set[str]:
        """The writer schemas that are registered for a lane (contract, section 2, "Schemas")."""
        with self._pool.transaction(self._deadline) as pipeline:
            answer = pipeline.fetch(RegisteredSchema, "load_schemas", lane, lane)
        return {row.fingerprint for row in answer.rows}

    def lane_of_tenant(self, tenant_id: str) -> int:
        """The lane that holds a tenant's newest records. Raises SetupError if the database knows no topic."""
        if self._topic is None:
            self._topic = newest_topic(self.topics())
        return self._topic.first_lane + partition_of(tenant_id.encode(), self._topic.partitions)


def missing_outcome(event_id: int) -> LaneStoppedError:
    """The error of a record that was folded but has no outcome that its reader can see."""
    return LaneStoppedError(
        f"record {event_id} of lane {lane_of(event_id)} was folded, but no outcome of it belongs to this tenant; "
        "it may have been misrouted: an operator finds it with `core-tables refused`"
    )
