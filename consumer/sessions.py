"""The sessions of Postgres that a worker folds in: one, or one for each of several databases."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol, TypeVar

from core_tables.consumer.timer import Clock
from core_tables.projection.postgres.lanes import unknown_lane
from core_tables.projection.postgres.store import Store
from core_tables.schemas.reasons import SetupError, UnavailableError

DENIED_S: Final = 300.0
_T = TypeVar("_T")


class Sessions(Protocol):
    """The sessions of a worker. `opened` counts how often one was opened."""

    @property
    def opened(self) -> int: ...

    def of_lane(self, lane: int) -> "Session": ...

    def apart(self, items: Sequence[_T], lane: Callable[[_T], int]) -> "list[tuple[Session, Sequence[_T]]]": ...

    def close(self) -> None: ...


class Session:
    """The worker's session of Postgres: opened when it is needed, closed after an error. `opened` counts the openings.

    After it was open once, a password that is refused is waited for like a server that is down, for DENIED_S seconds: a password is
    changed in the server and in the passfile, and not at the same moment.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        clock: Clock = time.monotonic,
        *,
        was_open: bool = False,
        rests: bool = False,
    ) -> None:
        """`was_open`: the same program has connected before, so its password was right.

        `rests`: other databases have work. After a server has let us wait for nothing, it is not asked for twice as long.
        """
        self._rests = rests
        self._unanswered: str | None = None  # why it is not asked again until `_asks_at`
        self._asks_at = clock()
        self._open_store = open_store
        self._was_open = was_open
        self._clock = clock
        self._store: Store | None = None
        self._denied_at: float | None = None
        self.opened = 0

    def store(self) -> Store:
        """The store; connects if there is no connection. Raises UnavailableError or SetupError."""
        if self._store is None:
            began = self._clock()
            if self._unanswered is not None and began < self._asks_at:
                raise UnavailableError("postgres", self._unanswered)
            try:
                self._store = self._open_store()
            except UnavailableError as error:
                now = self._clock()
                self._unanswered, self._asks_at = error.message if self._rests else None, now + 2 * (now - began)
                raise
            except SetupError as error:
                if error.subject != "permission" or not self._may_pass():
                    raise
                raise UnavailableError("postgres", error.message) from error
            self._denied_at = self._unanswered = None
            self.opened += 1
        return self._store

    def _may_pass(self) -> bool:
        if self._denied_at is None:
            self._denied_at = self._clock()
        return (self._was_open or self.opened > 0) and self._clock() < self._denied_at + DENIED_S

    def of_lane(self, lane: int) -> "Session":  # noqa: ARG002 - one database has all
        """Itself: see SessionsOfLanes."""
        return self

    def apart(self, items: Sequence[_T], lane: Callable[[_T], int]) -> "list[tuple[Session, Sequence[_T]]]":  # noqa: ARG002
        """Itself, with all of them."""
        return [(self, items)] if items else []

    def close(self) -> None:
        """Close the connection, if there is one; an open transaction is rolled back."""
        if self._store is not None:
            self._store.connection.close()
            self._store = None


class SessionsOfLanes:
    """A session for each of several databases, by the lanes that it has. No transaction spans two."""

    def __init__(self, sessions: Sequence[tuple[Collection[int], Session]]) -> None:
        self._sessions = [session for _, session in sessions]
        self._by_lane = {lane: session for lanes, session in sessions for lane in lanes}

    @property
    def opened(self) -> int:
        """How often one was opened."""
        return sum(session.opened for session in self._sessions)

    def of_lane(self, lane: int) -> Session:
        """The session of the database that has a lane. Raises SetupError if none has."""
        if lane not in self._by_lane:
            raise unknown_lane(lane)
        return self._by_lane[lane]

    def apart(self, items: Sequence[_T], lane: Callable[[_T], int]) -> list[tuple[Session, Sequence[_T]]]:
        """What belongs to lanes, apart by the session that they have, in the same order."""
        found: dict[Session, list[_T]] = {}
        for item in items:
            found.setdefault(self.of_lane(lane(item)), []).append(item)
        return list(found.items())

    def close(self) -> None:
        """Close them all."""
        for session in self._sessions:
            session.close()
