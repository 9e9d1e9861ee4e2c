"""A model of Postgres: guarded transactions, commits whose reply is lost, and a failover that forgets the last one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from core_tables.projection.fold.evolve import FOLD_VERSION
from core_tables.projection.fold.needs import Known
from core_tables.projection.fold.values import Changed, Decided, Loaded, Record, WorkOrderKey
from core_tables.projection.postgres.keys import Move
from core_tables.projection.postgres.lanes import LanePosition
from core_tables.projection.postgres.store import recalled
from core_tables.schemas.reasons import UnavailableError
from core_tables.schemas.wire import WRITER_FINGERPRINT
from tests.tables import Tables

from .scheduler import Scheduler


@dataclass
class Committed(Tables):
    """What is committed: the rows of the lanes too."""

    lanes: dict[int, LanePosition] = field(default_factory=dict)

    def copy(self) -> Self:
        """A copy that may be changed."""
        return replace(super().copy(), lanes=dict(self.lanes))


class Database:
    """The server: what is committed now, and before the last commit; and who holds which lane's row."""

    def __init__(self, scheduler: Scheduler, lanes: int) -> None:
        self.scheduler = scheduler
        self.tables = Committed(
            lanes={lane: LanePosition(lane, 0, 0, 0, FOLD_VERSION, {WRITER_FINGERPRINT: 0}) for lane in range(lanes)}
        )
        self.before = self.tables
        self.locks: dict[int, Store] = {}
        self.epoch = 0  # a failover ends every session
        self.faults = 0.0
        self.audited_falls = False

    def goes_wrong(self) -> bool:
        return self.scheduler.chance.random() < self.faults

    def audited(self, lane: int) -> int:
        """The audited watermark of a lane, as the audit reads it, on a connection of its own."""
        self.scheduler.edge()
        if self.goes_wrong():
            raise gone()
        return self.tables.lanes[lane].audited

    def commit(self, tables: Committed) -> None:
        """Make a transaction's tables the committed ones."""
        self.before, self.tables = self.tables, tables

    def failover(self) -> None:
        """A standby takes over that has not got the last commit."""
        self.tables = self.before
        self.locks.clear()
        self.epoch += 1


def gone() -> UnavailableError:
    """The error of a session that is no more."""
    return UnavailableError("postgres", "simulated: the connection is lost")


class Store:
    """A worker's session; the same methods as the real store, over the model."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.epoch = database.epoch
        self.open: Committed | None = None
        self.written: set[WorkOrderKey] = set()
        self.connection = self

    def close(self) -> None:
        """End the session: what it had open is rolled back."""
        self._end()

    def lanes(self, lanes: Sequence[int]) -> dict[int, LanePosition]:
        self._call()
        return {lane: self.database.tables.lanes[lane] for lane in lanes}

    def raise_audited(self, audited: Mapping[int, int]) -> None:
        self._call()
        self._wait_for(sorted(audited))
        tables = self.database.tables.copy()
        for lane, offset in audited.items():
            row = tables.lanes[lane]
            tables.lanes[lane] = row._replace(audited=max(row.audited, min(offset, row.applied)))
        self.database.tables = tables  # not a commit that a failover test cares to lose

    def save_stops(self, stops: object) -> None:
        """What `status` shows later."""

    clear_stops = save_stops

    def lane_stops(self) -> list[object]:
        return []

    def begin(self, moves: Sequence[Move], records: Sequence[Record], known: Known) -> tuple[set[int], Loaded]:
        """Lock the lanes' rows, compare, set; then load."""
        self._call()
        for move in sorted(moves):
            self._wait_for([move.lane])
            self.database.locks[move.lane] = self
        self.open, self.written = self.database.tables.copy(), set()
        held = set()
        for move in moves:
            row = self.open.lanes[move.lane]
            if self.matches(row, move):
                audited = min(move.audited, move.reached)
                audited = audited if self.database.audited_falls and audited else max(row.audited, audited)
                self.open.lanes[move.lane] = row._replace(applied=max(row.applied, move.reached), audited=audited)
                held.add(move.lane)
        return held, self.load(records, known)

    def _wait_for(self, lanes: Sequence[int]) -> None:
        """Wait until nobody else holds the lanes' rows; the holder may have been killed meanwhile."""
        while any(self.database.locks.get(lane, self) is not self for lane in lanes):
            self._call()

    def matches(self, row: LanePosition, move: Move) -> bool:
        """The compare of the compare-and-set."""
        return (row.applied, row.epoch) == (move.applied, move.epoch)

    def recall(self, records: Sequence[Record]) -> list[Decided]:
        self._call()
        tables = self.open or self.database.tables
        return [recalled(record, tables.outcomes, tables.statuses()) for record in records]

    def load(self, records: Sequence[Record], known: Known) -> Loaded:
        self._call()
        assert self.open is not None
        return self.open.load(records, known)

    def write(
        self, parts: Iterable[Sequence[Decided]], changed: Changed, meanwhile: Callable[[], None] | None = None
    ) -> None:
        self._call()
        assert self.open is not None
        self.open.write([decided for part in parts for decided in part], changed)
        self.written |= changed.keys()
        if meanwhile is not None:
            meanwhile()

    def commit(self, applied: Mapping[int, int]) -> bool:  # noqa: ARG002 - nobody waits to be woken here
        """Commit; the request or its answer may get lost."""
        self._call()
        assert self.open is not None
        # Other lanes may have been committed meanwhile: only what this transaction changed is taken over.
        self.database.commit(self._merged(self.open))
        self._end()
        if self.database.goes_wrong():
            raise gone()
        return True

    def rollback(self) -> None:
        self._call()
        self._end()

    def _merged(self, mine: Committed) -> Committed:
        merged = self.database.tables.copy()
        locked = {lane for lane, holder in self.database.locks.items() if holder is self}
        merged.lanes |= {lane: mine.lanes[lane] for lane in locked}
        merged.ledger |= mine.ledger
        merged.outcomes |= mine.outcomes
        merged.put_from(mine, self.written)
        return merged

    def _call(self) -> None:
        """A round trip: time for others, and for what goes wrong."""
        self.database.scheduler.edge()
        if self.epoch != self.database.epoch or self.database.goes_wrong():
            self._end()
            raise gone()

    def _end(self) -> None:
        self.open = None
        for lane in [lane for lane, holder in self.database.locks.items() if holder is self]:
            del self.database.locks[lane]
