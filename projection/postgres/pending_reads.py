"""The pending list of a requester, from the cache or from Postgres."""

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from core_tables.projection.fold.pending import (
    PendingOffer,
    PendingQuery,
    PendingRecord,
    checked,
    pending_list,
    pending_since,
)
from core_tables.projection.postgres.from_rows import pending_of_row
from core_tables.projection.postgres.lane_pools import Pools
from core_tables.projection.postgres.lane_reads import LaneReads
from core_tables.projection.postgres.lanes import folded_past, unknown_lane
from core_tables.projection.postgres.row_types import PendingRow
from core_tables.projection.postgres.tenant_reads import checked_parameters
from core_tables.schemas.identity import lane_of
from core_tables.schemas.vocabulary import MAX_I64, PENDING_STATUSES

if TYPE_CHECKING:  # the client of Redis, for which reads without a cache do not wait
    from core_tables.projection.cache.pending_cache import PendingCache


class PendingAnswer(NamedTuple):
    """A pending list, the offset of the tenant's lane it is true at, and whether the cache gave it."""

    offers: list[PendingOffer]
    position: int
    from_cache: bool


class Newest(NamedTuple):
    """Which records Postgres is asked for: in these statuses, updated since a time; how many of each status, and in all."""

    statuses: Collection[str]
    since: int
    most_of_a_status: int
    most: int


class PendingReads(LaneReads):
    """The read of pending lists; the cache is optional."""

    def __init__(self, pools: Pools, cache: "PendingCache | None" = None) -> None:
        super().__init__(pools)
        self._cache = cache

    def pending(self, query: PendingQuery, *, at_least: int = 0) -> PendingAnswer:
        """The pending list of a requester; cache and Postgres answer the same at the same position.

        A cached list from before event `at_least` is passed over.
        """
        checked(query)
        checked_parameters(query.tenant_id, requester_user_id=query.requester_user_id)
        lane = self.lane_of_tenant(query.tenant_id)
        cached = None if self._cache is None else self._cache.read(lane, query)
        if (
            cached
            and cached.records is not None
            and cached.position is not None
            and _covers(lane, cached.position, at_least)
        ):
            return PendingAnswer(pending_list(cached.records, query), cached.position, from_cache=True)
        if not (
            self._cache and cached and self._cache.may_fill and cached.label is not None and cached.records is None
        ):
            asked = Newest(query.status_set, pending_since(query), query.top_n, query.top_n)
            rows = self._newest(query, lane, asked, at_least)
            return PendingAnswer(pending_list(_records(rows), query), rows[0].applied, from_cache=False)
        # The newest of each status fill the cache, and answer any query.
        of_each = self._cache.kept + 1
        rows = self._newest(query, lane, Newest(PENDING_STATUSES, 0, of_each, 3 * of_each), at_least)
        records = _records(rows)
        if cached.labelled(rows[0].epoch, rows[0].applied):
            self._cache.fill(cached.label, lane, (query.tenant_id, query.requester_user_id), records)
        return PendingAnswer(pending_list(records, query), rows[0].applied, from_cache=False)

    def _newest(self, query: PendingQuery, lane: int, asked: Newest, at_least: int) -> list[PendingRow]:
        """The newest records of a requester, one row without a record if there are none."""
        statuses = {status.lower(): status if status in asked.statuses else "" for status in sorted(PENDING_STATUSES)}
        rows = self._tenant_rows(
            PendingRow,
            query.tenant_id,
            "read_pending",
            at_least=at_least,
            requester_user_id=query.requester_user_id,
            **statuses,
            since=max(0, min(asked.since, MAX_I64)),  # as a column can hold it
            most_of_a_status=asked.most_of_a_status,
            most=asked.most,
            lane=lane,
        )
        if not rows:
            raise unknown_lane(lane)
        return rows


def _records(rows: list[PendingRow]) -> list[PendingRecord]:
    return [record for record in map(pending_of_row, rows) if record is not None]


def _covers(lane: int, applied: int, event_id: int) -> bool:
    return event_id == 0 or lane_of(event_id) < lane or (lane_of(event_id) == lane and folded_past(applied, event_id))
