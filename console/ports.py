"""What the pages are given to read with."""

from collections.abc import Callable
from typing import Any, NamedTuple

from core_tables.console.audit_tail import AuditFeed
from core_tables.consumer.lane_status import LedgerStatus
from core_tables.projection.postgres.reads import Reads


class Ports(NamedTuple):
    """The reads of one ledger, each safe in any thread; nothing here can change anything.

    Attributes:
        status: how far the lanes are.
        record: a record of the ledger topic by its event id, as JSON; None if the log has none there.
        feed: the outcomes, as they are published on the audit topic.
        log: a logger, for who asked to see values.
    """

    reads: Reads
    status: Callable[[], LedgerStatus]
    record: Callable[[int], dict[str, Any] | None]
    feed: AuditFeed
    log: Any
