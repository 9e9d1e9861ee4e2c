"""Connections for reads, lent to one thread at a time."""

import os
import select
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from core_tables.projection.postgres.connection import IN_ORDER, Connection, CurrentDsn, connect
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.forks import reset_after_fork
from core_tables.projection.postgres.lanes import only_these_lanes
from core_tables.projection.postgres.pipeline import Pipeline
from core_tables.schemas.reasons import ClosedError, CoreTablesError, UnavailableError
from core_tables.schemas.topic import LedgerTopic

READ_TIMEOUT_S: Final = 10.0
POOL_SIZE: Final = 4
PLAN_PAUSE_S: Final = 1.0
# A call at its deadline still asks once.
_LEAST_WAIT_S: Final = 0.05
_MAX_PLAN_PAUSE_S: Final = 60.0


class _Opening:
    """A connection on its way."""

    def __init__(self) -> None:
        self.done = False
        self.error: CoreTablesError | None = None


class _Lent:
    """A connection, its pipelines, and when its plans are dropped."""

    def __init__(self, connection: Connection, plan_pause_s: float, *, pooled: bool) -> None:
        self.connection = connection
        self.pipeline = Pipeline(connection, prepares=not pooled)
        self._pooled = pooled
        self.process = os.getpid()
        self._plan_pause_s, self._plan_at = plan_pause_s, time.monotonic() + plan_pause_s
        self._cut = select.poll()
        self._cut.register(connection.fileno(), select.POLLIN)

    def is_usable(self) -> bool:
        """Whether it is open as far as we know. A server that ends an idle session says so on the socket."""
        return not self.connection.closed and not self._cut.poll(0)

    def begin(self, pipeline: Pipeline) -> int:
        """What comes before the statements of a transaction. Return whether it dropped plans, as 0 or 1.

        Plans are dropped now and then, because they were made for smaller tables. Behind a pooler there are none.
        """
        if self._pooled:
            pipeline.add("set_pooled_session")
            return 0
        if (now := time.monotonic()) < self._plan_at:
            return 0
        pipeline.command(b"DISCARD PLANS")
        self._plan_pause_s = min(_MAX_PLAN_PAUSE_S, 2 * self._plan_pause_s)
        self._plan_at = now + self._plan_pause_s
        return 1


class ReadPool:
    """At most `size` connections of one role, opened when they are needed and again when they were lost.

    Thread-safe. A process that was forked opens connections of its own: on the parent's, each would read the other's answers.
    A connection drops its plans `plan_pause_s` seconds after it was opened, and then ever more rarely. `pooled`: the
    connections lead to a pooler that gives each transaction any session.
    """

    def __init__(
        self,
        open_connection: Callable[[], Connection],
        size: int = POOL_SIZE,
        plan_pause_s: float = PLAN_PAUSE_S,
        *,
        pooled: bool = False,
    ) -> None:
        self._open_connection = open_connection
        self._pooled = pooled
        self._size = size
        self._plan_pause_s = plan_pause_s
        self.plans_dropped = 0
        self._inherited: list[_Lent] = []
        self._idle: list[_Lent] = []
        self._begin()
        reset_after_fork(self)

    @classmethod
    def connect(
        cls,
        dsn: CurrentDsn,
        name: str,
        size: int = POOL_SIZE,
        *,
        pooled: bool = False,
        lanes: Collection[int] | None = None,
    ) -> "ReadPool":
        """A pool of sessions in which statements are planned once. Nothing is opened yet.

        `lanes`: those that the database must have, if it is one of several.
        """

        def opened() -> Connection:
            connection = connect(dsn, name=name, plans=IN_ORDER, pooled=pooled)
            return connection if lanes is None else only_these_lanes(connection, lanes)

        return cls(opened, size, pooled=pooled)

    @contextmanager
    def transaction(self, deadline: float | None = None) -> Iterator[Pipeline]:
        """A transaction in one round trip, which a pipeline without BEGIN is. Answered by `deadline` (monotonic seconds).

        Without a deadline it has READ_TIMEOUT_S. Raises UnavailableError or SetupError.
        """
        now = time.monotonic()
        limit = now + READ_TIMEOUT_S if deadline is None else max(deadline, now + _LEAST_WAIT_S)
        lent = self._take(limit)
        try:
            lent.pipeline.deadline = limit
            with translated(), lent.pipeline as pipeline:
                self.plans_dropped += lent.begin(pipeline)
                yield pipeline
        finally:
            self._give_back(lent)

    def of_lane(self, lane: int) -> "ReadPool":  # noqa: ARG002 - one database has all
        """Itself: see LanePools."""
        return self

    def of_tenant(self, tenant_id: str, deadline: float | None) -> Sequence["ReadPool"]:  # noqa: ARG002
        """Itself."""
        return (self,)

    def every(self) -> Sequence["ReadPool"]:
        """Itself."""
        return (self,)

    def topics(self, deadline: float | None) -> list[LedgerTopic]:
        """The topics of the ledger, oldest first."""
        with self.transaction(deadline) as pipeline:
            answer = pipeline.fetch(LedgerTopic, "load_topics")
        return answer.rows

    def close(self) -> None:
        """Close the connections; those that are lent close when they are given back."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        for lent in idle:
            lent.connection.close()

    def after_fork(self) -> None:
        """Start over in a child process. What the parent opened is kept and never touched: closing it would end its sessions."""
        self._inherited += self._idle
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._idle = []
        self._open = 0  # with those on their way
        self._closed = False

    def _take(self, limit: float) -> _Lent:
        opening: _Opening | None = None
        with self._changed:
            while True:
                if self._closed:
                    raise ClosedError("these reads are closed; nothing was asked; connect again")
                while self._idle:
                    lent = self._idle.pop()
                    if lent.is_usable():
                        return lent
                    self._forget(lent)
                if opening is not None and opening.error is not None:
                    raise opening.error
                if self._open < self._size and (opening is None or opening.done):
                    opening = self._start_opening()
                left = limit - time.monotonic()
                if left <= 0:
                    raise self._not_in_time(opening)
                self._changed.wait(left)

    def _not_in_time(self, opening: _Opening | None) -> UnavailableError:
        if opening is not None and not opening.done:
            return UnavailableError("postgres", "Postgres accepted no connection in time; see that it runs")
        return UnavailableError(
            "postgres", f"all {self._size} connections for reads are in use; try again, or allow more connections"
        )

    def _start_opening(self) -> _Opening:
        """Open a connection in a thread of its own: looking up a name, and a server that is suspended, know no deadline."""
        opening = _Opening()
        self._open += 1
        threading.Thread(target=self._open_one, args=(opening,), name="core-tables connect", daemon=True).start()
        return opening

    def _open_one(self, opening: _Opening) -> None:
        lent: _Lent | None = None
        try:
            lent = _Lent(self._open_connection(), self._plan_pause_s, pooled=self._pooled)
        except CoreTablesError as error:
            opening.error = error
        except Exception as error:
            opening.error = UnavailableError("postgres", f"a connection to Postgres could not be opened: {error}")
        with self._changed:
            opening.done = True
            if lent is None:
                self._open -= 1
            elif self._closed:
                self._forget(lent)
            else:
                self._idle.append(lent)
            self._changed.notify_all()

    def _give_back(self, lent: _Lent) -> None:
        if lent.process != os.getpid():
            return  # the process forked meanwhile
        with self._changed:
            if self._closed or lent.connection.closed:
                self._forget(lent)
            else:
                self._idle.append(lent)
            self._changed.notify()

    def _forget(self, lent: _Lent) -> None:
        self._open -= 1
        lent.connection.close()
