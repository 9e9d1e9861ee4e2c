"""The pending list of a requester, from the cache or from Postgres."""

from typing import NamedTuple

from core_tables.projection.cache.pending_cache import CachedList, PendingCache
from core_tables.projection.fold.pending import PendingOffer, PendingQuery, checked, pending_list
from core_tables.projection.postgres.from_rows import pending_of_row
from core_tables.projection.postgres.lane_reads import LaneReads
from core_tables.projection.postgres.lanes import folded_past, unknown_lane
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.row_types import PendingRow
from core_tables.projection.postgres.tenant_reads import checked_parameters
from core_tables.schemas.identity import lane_of


class PendingAnswer(NamedTuple):
    """A pending list, the offset of the tenant's lane it is true at, and whether the cache gave it."""

    offers: list[PendingOffer]
    position: int
    from_cache: bool


class PendingReads(LaneReads):
    """The read of pending lists; the cache is optional."""

    def __init__(self, pool: ReadPool, cache: PendingCache | None = None) -> None:
        super().__init__(pool)
        self._cache = cache

    def pending(self, query: PendingQuery, *, at_least: int = 0) -> PendingAnswer:
        """The pending list of a requester; cache and Postgres answer the same at the same position.

        A cached list from before event `at_least` is passed over.
        """
        checked(query)
        checked_parameters(query.tenant_id, requester_user_id=query.requester_user_id)
        lane = self.lane_of_tenant(query.tenant_id)
        cached = CachedList(None, None)
        if self._cache is not None:
            cached = self._cache.read(lane, query.tenant_id, query.requester_user_id)
            if cached.records is not None and cached.position is not None and _covers(lane, cached.position, at_least):
                return PendingAnswer(pending_list(cached.records, query), cached.position, from_cache=True)
        rows = self._tenant_rows(
            PendingRow,
            query.tenant_id,
            "read_pending",
            at_least=at_least,
            requester_user_id=query.requester_user_id,
            lane=lane,
        )
        if not rows:
            raise unknown_lane(lane)
        first = rows[0]
        records = [record for record in map(pending_of_row, rows) if record is not None]
        if self._cache is not None and cached.label is not None and cached.labelled(first.epoch, first.applied):
            self._cache.fill(cached.label, lane, (query.tenant_id, query.requester_user_id), records)
        return PendingAnswer(pending_list(records, query), first.applied, from_cache=False)


def _covers(lane: int, applied: int, event_id: int) -> bool:
    return event_id == 0 or lane_of(event_id) < lane or (lane_of(event_id) == lane and folded_past(applied, event_id))
