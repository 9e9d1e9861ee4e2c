"""What a worker works with: the clients it is given, and its sessions of Postgres."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Consumer

from core_tables.consumer.audit_queue import AuditQueue
from core_tables.consumer.counts import WorkerCounts
from core_tables.consumer.sessions import Sessions
from core_tables.kafka.current_ends import AskedEnds
from core_tables.projection.cache.pending_cache import PendingCache
from core_tables.projection.fold.values import Record

Traced = Callable[[Mapping[int, Sequence[Record]], Sequence[float]], None]


@dataclass(frozen=True)
class WorkerDependencies:
    """The clients of a worker, and four questions to the broker.

    Attributes:
        consumer: the consumer of the ledger topic; the worker subscribes it.
        postgres: the sessions that the worker folds in.
        cache: the pending lists in Redis, if there is a Redis.
        audit: the queue that the audit thread empties, if this worker writes the audit topic.
        find_gaps: see LogProbe.gaps.
        check_topics: raises SetupError if a topic is no longer the one that the lanes were made for.
        ends: asks where the logs of the ledger topic end.
        check_clients: raises UnavailableError or FatalClientError if a Kafka client of this worker does not find the brokers.
        name: what others call this worker.
        counts: what the worker counts.
        traced: is given each batch that was committed, by partition, and the moments before, between and after its steps.
    """

    consumer: Consumer
    postgres: Sessions
    cache: PendingCache | None
    audit: AuditQueue | None
    find_gaps: Callable[[int, int], dict[int, int]]
    check_topics: Callable[[], None]
    ends: AskedEnds
    check_clients: Callable[[], None]
    name: str = ""
    counts: WorkerCounts = field(default_factory=WorkerCounts)
    traced: Traced | None = None
