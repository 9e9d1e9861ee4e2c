"""What a worker works with: the clients it is given, and its session of Postgres."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Consumer

from core_tables.consumer.audit_queue import AuditQueue
from core_tables.consumer.counts import WorkerCounts
from core_tables.consumer.timer import Clock
from core_tables.kafka.current_ends import AskedEnds
from core_tables.projection.cache.pending_cache import PendingCache
from core_tables.projection.fold.values import Record
from core_tables.projection.postgres.store import Store
from core_tables.schemas.reasons import SetupError, UnavailableError

DENIED_S: Final = 300.0
Traced = Callable[[Mapping[int, Sequence[Record]], Sequence[float]], None]


class Session:
    """The worker's session of Postgres: opened when it is needed, closed after an error. `opened` counts the openings.

    After it was open once, a password that is refused is waited for like a server that is down, for DENIED_S seconds: a password is
    changed in the server and in the passfile, and not at the same moment.
    """

    def __init__(
        self, open_store: Callable[[], Store], clock: Clock = time.monotonic, *, was_open: bool = False
    ) -> None:
        """`was_open`: the same program has connected before, so its password was right."""
        self._open_store = open_store
        self._was_open = was_open
        self._clock = clock
        self._store: Store | None = None
        self._denied_at: float | None = None
        self.opened = 0

    def store(self) -> Store:
        """The store; connects if there is no connection. Raises UnavailableError or SetupError."""
        if self._store is None:
            try:
                self._store = self._open_store()
            except SetupError as error:
                if error.subject != "permission" or not self._may_pass():
                    raise
                raise UnavailableError("postgres", error.message) from error
            self._denied_at = None
            self.opened += 1
        return self._store

    def _may_pass(self) -> bool:
        if self._denied_at is None:
            self._denied_at = self._clock()
        return (self._was_open or self.opened > 0) and self._clock() < self._denied_at + DENIED_S

    def close(self) -> None:
        """Close the connection, if there is one; an open transaction is rolled back."""
        if self._store is not None:
            self._store.connection.close()
            self._store = None


@dataclass(frozen=True)
class WorkerDependencies:
    """The clients of a worker, and three questions to the broker.

    Attributes:
        consumer: the consumer of the ledger topic; the worker subscribes it.
        postgres: the session that the worker folds in.
        cache: the pending lists in Redis, if there is a Redis.
        audit: the queue that the audit thread empties, if this worker writes the audit topic.
        find_gaps: see LogProbe.gaps.
        check_topics: raises SetupError if a topic is no longer the one that the lanes were made for.
        ends: asks where the logs of the ledger topic end.
        name: what others call this worker.
        counts: what the worker counts.
        traced: is given each batch that was committed, by partition, and the moments before, between and after its steps.
    """

    consumer: Consumer
    postgres: Session
    cache: PendingCache | None
    audit: AuditQueue | None
    find_gaps: Callable[[int, int], dict[int, int]]
    check_topics: Callable[[], None]
    ends: AskedEnds
    name: str = ""
    counts: WorkerCounts = field(default_factory=WorkerCounts)
    traced: Traced | None = None
