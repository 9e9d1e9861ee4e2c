"""What a worker works with: the clients it is given, and its session of Postgres."""

from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import Consumer

from core_tables.consumer.audit_queue import AuditQueue
from core_tables.projection.cache.pending_cache import PendingCache
from core_tables.projection.postgres.store import Store


class Session:
    """The worker's session of Postgres: opened when it is needed, closed after an error. `opened` counts the openings."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._store: Store | None = None
        self.opened = 0

    def store(self) -> Store:
        """The store; connects if there is no connection. Raises UnavailableError or SetupError."""
        if self._store is None:
            self._store = self._open_store()
            self.opened += 1
        return self._store

    def close(self) -> None:
        """Close the connection, if there is one; an open transaction is rolled back."""
        if self._store is not None:
            self._store.connection.close()
            self._store = None


@dataclass(frozen=True)
class WorkerDependencies:
    """The clients of a worker, and two questions to the broker.

    Attributes:
        consumer: the consumer of the ledger topic; the worker subscribes it.
        postgres: the session that the worker folds in.
        cache: the pending lists in Redis, if there is a Redis.
        audit: the queue that the audit thread empties, if this worker writes the audit topic.
        find_gaps: see LogProbe.gaps.
        check_topics: raises SetupError if a topic is no longer the one that the lanes were made for.
    """

    consumer: Consumer
    postgres: Session
    cache: PendingCache | None
    audit: AuditQueue | None
    find_gaps: Callable[[int, int], dict[int, int]]
    check_topics: Callable[[], None]
