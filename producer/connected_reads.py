"""The reads as a program connects them: as the reader, with the cache if there is one."""

from collections.abc import Callable
from functools import partial

from core_tables.projection.cache.pending_cache import PendingCache, connect_cache
from core_tables.projection.postgres.connection import CurrentDsn
from core_tables.projection.postgres.lanes import topic_named
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas.reasons import SetupError

CurrentUrl = str | Callable[[], str]
_NO_SCHEDULER = (
    "this ledger has no scheduler_dsn, so it cannot ask which tenants have something due; set it in LedgerSettings"
)


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


def connect_scheduler(dsn: CurrentDsn | None, *, pooled: bool = False) -> Reads:
    """The reads of a scheduler, which can ask for the tenants that have something due, and for nothing else.

    Nothing is opened yet. Raises SetupError without a DSN.
    """
    if dsn is None:
        raise SetupError(_NO_SCHEDULER, "database")
    return Reads(ReadPool.connect(dsn, "core-tables scheduler", pooled=pooled))
