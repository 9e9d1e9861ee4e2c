"""Why lanes stopped, kept in Postgres for those who ask later (`core-tables status`)."""

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final

from core_tables.consumer.lane import Lane
from core_tables.consumer.sessions import Session, Sessions
from core_tables.consumer.timer import Clock
from core_tables.projection.postgres.keys import LaneStop
from core_tables.projection.postgres.lanes import KnownStop
from core_tables.schemas.identity import event_id_at, offset_of
from core_tables.schemas.reasons import CoreTablesError, StopCause, UnavailableError, stop_cause

# A lane that stopped at a record has got past it when the record is folded; any other, when it has stayed open for a while.
_OF_A_RECORD: Final[frozenset[StopCause]] = frozenset({"schema", "record", "defect"})
STEADY_S: Final = 5.0


class LaneStops:
    """The stops of this worker that are not written yet, and when those in Postgres are over.

    Nothing here can hold up the worker or hide the cause of a stop: the log has it in any case.
    """

    def __init__(self, postgres: Sessions, worker: str, log: Any, clock: Clock) -> None:
        self._postgres = postgres
        self._worker = worker
        self._log = log
        self._clock = clock
        self._unsaved: dict[int, LaneStop] = {}
        self._may_clear = True

    def add(self, lane: Lane, offset: int, error: CoreTablesError) -> None:
        """Note that a lane stopped; `save` writes it."""
        event_id = event_id_at(lane.lane, offset)
        self._unsaved[lane.lane] = LaneStop(lane.lane, event_id, stop_cause(error), error.message, self._worker)

    def save(self) -> None:
        """Write what was noted. If Postgres does not answer, the next call tries again; if it refuses, only the log has it."""
        for session, stops in self._postgres.apart(list(self._unsaved.values()), attrgetter("lane")):
            lanes = sorted(stop.lane for stop in stops)
            try:
                session.store().save_stops(stops)
            except CoreTablesError as error:
                if not self._is_refused(session, lanes, error):
                    continue
            for lane in lanes:
                del self._unsaved[lane]

    def clear(self, opened: Iterable[Lane]) -> None:
        """Mark the stops of lanes that are past them. If Postgres refuses, they stay as they are."""
        lanes = {lane.lane: lane for lane in opened}
        for session, numbers in self._postgres.apart(list(lanes), int):
            if not self._may_clear:
                return
            try:
                store = session.store()
                stops = [stop for stop in store.lane_stops() if stop.lane in numbers]
                over = [stop.lane for stop in stops if self._is_over(lanes[stop.lane], stop)]
                if over:
                    store.clear_stops(over)
            except CoreTablesError as error:
                self._may_clear = not self._is_refused(session, [], error)

    def _is_refused(self, session: Session, lanes: list[int], error: CoreTablesError) -> bool:
        """Whether trying again is of no use. The session stays open then, since a new one is a reason to check all lanes."""
        self._log.warning("stops_not_saved", lanes=lanes, cause=error.message)
        if isinstance(error, UnavailableError):
            session.close()
        return not isinstance(error, UnavailableError)

    def _is_over(self, lane: Lane, stop: KnownStop) -> bool:
        if stop.cause in _OF_A_RECORD:
            return lane.next_offset > offset_of(stop.event_id)
        return self._clock() >= lane.opened_at + STEADY_S
