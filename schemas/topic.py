"""The topics of a ledger, as the database registers them."""

from typing import NamedTuple


class LedgerTopic(NamedTuple):
    """A ledger topic with its audit topic (a row of os_core.work_order_topics).

    The lanes of its partitions are `first_lane` to `first_lane + partitions - 1`.
    """

    first_lane: int
    topic: str
    topic_id: str
    cluster_id: str
    partitions: int
    audit_topic: str
    audit_topic_id: str
