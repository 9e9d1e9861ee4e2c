"""The reads as a program connects them: as the reader, with the cache if there is one."""

from collections.abc import Callable
from functools import partial

from core_tables.projection.cache.pending_cache import PendingCache, connect_cache
from core_tables.projection.postgres.connection import CurrentDsn
from core_tables.projection.postgres.lanes import topic_named
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.reads import Reads

CurrentUrl = str | Callable[[], str]


def connect_reads(
    dsn: CurrentDsn, name: str, *, pooled: bool = False, topic: str = "", redis_url: CurrentUrl | None = None
) -> Reads:
    """The reads of a ledger. With a cache its topic is looked up, which raises UnavailableError or SetupError.

    The cache itself is not asked yet: while it does not answer, pending lists come from Postgres.
    """
    pool = ReadPool.connect(dsn, name, pooled=pooled)
    if redis_url is None:
        return Reads(pool)
    topic_id = topic_named(Reads(pool).topics(), topic).topic_id
    current = redis_url if callable(redis_url) else partial(str, redis_url)
    return Reads(pool, PendingCache(connect_cache(current), topic_id))
