"""Which connections a read is asked on: those of the database that has the lane, or the tenant."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from core_tables.projection.postgres.lanes import newest_topic, unknown_lane
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.schemas.identity import partition_of
from core_tables.schemas.reasons import UnavailableError
from core_tables.schemas.topic import LedgerTopic
from core_tables.schemas.vocabulary import UNATTRIBUTED


class Pools(Protocol):
    """The connections of a ledger: of one database, which a ReadPool is, or of several."""

    def of_lane(self, lane: int) -> ReadPool: ...

    def of_tenant(self, tenant_id: str, deadline: float | None) -> Sequence[ReadPool]: ...

    def every(self) -> Sequence[ReadPool]: ...

    def topics(self, deadline: float | None) -> list[LedgerTopic]: ...

    def close(self) -> None: ...


class PoolOfLanes(NamedTuple):
    """The connections of one database among several, and its lanes."""

    lanes: Collection[int]
    pool: ReadPool


class LanePools:
    """The connections of several databases, each with lanes of its own. A tenant's records are in one of them."""

    def __init__(self, parts: Sequence[PoolOfLanes]) -> None:
        self._parts = parts
        self._by_lane = {lane: part.pool for part in parts for lane in part.lanes}
        self._topic: LedgerTopic | None = None
        self._first = 0  # which database is asked first

    def of_lane(self, lane: int) -> ReadPool:
        """The connections to the database that has a lane. Raises SetupError if none has."""
        if lane not in self._by_lane:
            raise unknown_lane(lane)
        return self._by_lane[lane]

    def of_tenant(self, tenant_id: str, deadline: float | None) -> Sequence[ReadPool]:
        """The connections to what has a tenant's rows: one database. Records of no tenant may be in each."""
        if tenant_id == UNATTRIBUTED:
            return self.every()
        if self._topic is None:
            self._topic = newest_topic(self.topics(deadline))
        return (self.of_lane(self._topic.first_lane + partition_of(tenant_id.encode(), self._topic.partitions)),)

    def every(self) -> Sequence[ReadPool]:
        """The connections to each database."""
        return [part.pool for part in self._parts]

    def topics(self, deadline: float | None) -> list[LedgerTopic]:
        """The topics of the ledger, as any database has them; one that did not answer is asked last the next time."""
        for left in reversed(range(len(self._parts))):
            try:
                return self._parts[self._first].pool.topics(deadline)
            except UnavailableError:
                self._first = (self._first + 1) % len(self._parts)
                if not left:
                    raise
        raise AssertionError("the last one returns or raises")

    def close(self) -> None:
        """Close them all."""
        for pool in self.every():
            pool.close()
