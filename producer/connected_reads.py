"""The reads as a program connects them: as the reader, with the cache if there is one."""

from collections.abc import Callable, Collection, Sequence
from functools import partial

from core_tables.projection.postgres.connection import CurrentDsn
from core_tables.projection.postgres.lane_pools import LanePools, PoolOfLanes, Pools
from core_tables.projection.postgres.lanes import topic_named
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas.reasons import SetupError

# Where a database is, and the lanes that it has; None: all.
DsnOfLanes = tuple[Collection[int] | None, CurrentDsn]
CurrentUrl = str | Callable[[], str]
_NO_SCHEDULER = (
    "this ledger has no scheduler_dsn, so it cannot ask which tenants have something due; set it in LedgerSettings"
)


def connect_reads(
    dsns: Sequence[DsnOfLanes],
    name: str,
    *,
    pooled: bool = False,
    topic: str = "",
    redis_url: CurrentUrl | None = None,
) -> Reads:
    """The reads of a ledger. With a cache its topic is looked up, which raises UnavailableError or SetupError.

    The cache itself is not asked yet: while it does not answer, pending lists come from Postgres.
    """
    pools = _pools(dsns, name, pooled=pooled)
    if redis_url is None:
        return Reads(pools)
    from core_tables.projection.cache.pending_cache import (  # the client of Redis takes 0.1 s
        PendingCache,
        connect_cache,
    )

    topic_id = topic_named(Reads(pools).topics(), topic).topic_id
    current = redis_url if callable(redis_url) else partial(str, redis_url)
    return Reads(pools, PendingCache(connect_cache(current), topic_id))


def _pools(dsns: Sequence[DsnOfLanes], name: str, *, pooled: bool) -> Pools:
    found = [PoolOfLanes(lanes or (), ReadPool.connect(dsn, name, pooled=pooled, lanes=lanes)) for lanes, dsn in dsns]
    return _one_or_several(found)


def connect_scheduler(dsns: Sequence[DsnOfLanes], *, pooled: bool = False) -> Reads:
    """The reads of a scheduler, which can ask for the tenants that have something due, and for nothing else.

    Nothing is opened yet. Raises SetupError without a DSN.
    """
    if not dsns:
        raise SetupError(_NO_SCHEDULER, "database")
    # The role may not see which lanes a database has.
    pools = [PoolOfLanes((), ReadPool.connect(dsn, "core-tables scheduler", pooled=pooled)) for _, dsn in dsns]
    return Reads(_one_or_several(pools))


def _one_or_several(parts: Sequence[PoolOfLanes]) -> Pools:
    first, *others = parts
    return LanePools(parts) if others else first.pool
