"""Defects to plant in the worker, one at a time; the simulation must find each of them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from core_tables.consumer.audit_emitter import AuditEmitter
from core_tables.consumer.audit_queue import AuditQueue, LaneQueue
from core_tables.consumer.audit_record import AuditRecord
from core_tables.consumer.idle import IdleChecks
from core_tables.consumer.lane import Lane, StateCache
from core_tables.consumer.lifecycle import LaneLifecycle
from core_tables.consumer.worker import Worker
from core_tables.projection.cache.entries import WHOLE, members, newest
from core_tables.projection.cache.pending_cache import PendingCache
from core_tables.projection.postgres.keys import Move
from core_tables.projection.postgres.lanes import LanePosition
from core_tables.schemas.reasons import CoreTablesError, UnavailableError
from core_tables.schemas.wire import KNOWN_SCHEMAS

from .broker import Broker
from .cache import Redis
from .database import Committed, Database, Store
from .simulation import Simulation

Plant = Callable[[pytest.MonkeyPatch], Callable[[Simulation], None]]


def _nothing(_: Simulation) -> None:
    """Nothing more to change in the run itself."""


def no_compare_and_set(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    patch.setattr(Store, "matches", lambda *_: True)
    return _nothing


def recall_outside_the_guard(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    """It takes a failover that one lane learns of by its lost session, and a recall of another before the next look: so here
    Postgres fails over and loses sessions more often."""
    real = Store.matches

    def matches(self: Store, row: LanePosition, move: Move) -> bool:
        return move.reached == move.applied or real(self, row, move)

    def change(run: Simulation) -> None:
        fault = run._fault

        def often() -> None:
            fault()
            if run.chance.random() < 0.01:
                run.fail_over()

        patch.setattr(run, "_fault", often)
        patch.setattr(Database, "goes_wrong", lambda self: self.faults > 0 and run.chance.random() < 0.08)

    patch.setattr(Store, "matches", matches)
    return change


def tail_read_before_init(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    init, find = AuditEmitter._init, AuditEmitter._find_offset

    def early(self: AuditEmitter, queue: LaneQueue) -> None:
        nothing: Any = SimpleNamespace(next_offset=0)
        self._outputs[queue.lane] = nothing
        try:
            find(self, queue)
            next_offset = self._outputs[queue.lane].next_offset
        finally:
            del self._outputs[queue.lane]
        init(self, queue)
        self._outputs[queue.lane].next_offset = next_offset

    patch.setattr(AuditEmitter, "_init", early)
    patch.setattr(AuditEmitter, "_find_offset", lambda *_: None)
    return _nothing


def start_at_applied_only(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    real = LaneLifecycle._open

    def open_(self: LaneLifecycle, lane: Lane, row: LanePosition) -> None:
        real(self, lane, row._replace(audited=row.applied))

    patch.setattr(LaneLifecycle, "_open", open_)
    return _nothing


def watermark_that_outruns_the_audit(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    real = Worker._move

    def move(self: Worker, lane: Lane, batch: Any) -> Move:
        found = real(self, lane, batch)
        return replace(found, audited=found.reached)

    patch.setattr(Worker, "_move", move)
    return _nothing


def no_idle_check(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    patch.setattr(IdleChecks, "run_if_due", lambda _: None)
    return _nothing


def repair_without_epoch(_: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    def change(run: Simulation) -> None:
        run.repair_raises_epoch = False

    return change


def repair_unseen_by_the_cache(_: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    """The label does not tell epochs apart: lists of before a repair live on."""

    def change(run: Simulation) -> None:
        run.redis.revised = False

    return change


def cache_filled_without_fence(_: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    def change(run: Simulation) -> None:
        run.redis.fenced = False

    return change


def cache_label_adopted(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    real = Redis._advance

    def advance(self: Redis, keys: Any, args: list[Any]) -> None:
        label = self.labels.get(keys[0])
        if label is not None:
            args = [label.rpartition(":")[2], *args[1:]]
        real(self, keys, args)

    patch.setattr(Redis, "_advance", advance)
    return _nothing


def cache_read_one_by_one(_: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    """A worker changes a list between the reader's look at the label and at the list."""

    def change(run: Simulation) -> None:
        run.redis.at_once = False

    return change


def cached_nonce_not_compared(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    """The lists under the nonce that was seen first are shown under any label."""
    real = PendingCache._snapshot

    def snapshot(self: PendingCache, lane: int, names: Any, most: int) -> Any:
        label, lists = real(self, lane, names, most)
        if label is None:
            return label, lists
        first = self._nonces.setdefault(-1 - lane, label.rpartition(":")[0])  # no lane has such a number
        keys = [f"{self._prefix(lane)}{first}:{name}".encode() for name in names]
        nothing: Any = (None, [])
        value, lists = self._try(lambda: self._snapshots.take(self._label(lane).encode(), keys, most), nothing)
        return (None, None) if value is None else (value.decode(), lists)

    patch.setattr(PendingCache, "_snapshot", snapshot)
    return _nothing


def cached_list_read_as_whole(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    def answer(lists: Any, query: Any) -> Any:
        return newest(
            [[*(each for each in listed if b"\0" in each), WHOLE] if listed else [] for listed in lists], query
        )

    patch.setattr("core_tables.projection.cache.pending_cache.newest", answer)
    return _nothing


def cached_list_filled_without_marker(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    def filled(records: Any, kept: int) -> Any:
        return members(records[:kept], kept)

    patch.setattr("core_tables.projection.cache.pending_cache.members", filled)
    return _nothing


def cached_list_cut_without_marker(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    real = Redis._changed

    def changed(self: Redis, held: set[bytes], leaves: bytes, added: bytes, longest: int, kept: int) -> set[bytes]:
        after = real(self, held, leaves, added, longest, kept)
        return {*(each for each in after if b"\0" in each), max(held)}

    patch.setattr(Redis, "_changed", changed)
    return _nothing


def cached_entry_left_where_it_was(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    real = Redis._changed

    def changed(self: Redis, held: set[bytes], _leaves: bytes, *rest: Any) -> set[bytes]:
        return real(self, held, b"", *rest)

    patch.setattr(Redis, "_changed", changed)
    return _nothing


def commit_tried_again(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    real = Store.commit

    def commit(self: Store, applied: dict[int, int]) -> bool:
        tables = self.open
        try:
            return real(self, applied)
        except UnavailableError:
            for _ in range(20):  # a new connection takes its time
                self.database.scheduler.edge()
            if tables is not None:
                self.database.commit(tables)
            return True

    patch.setattr(Store, "commit", commit)
    return _nothing


def queue_entry_dropped_before_its_commit_is_confirmed(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    real = AuditQueue.first

    def first(self: AuditQueue, queue: LaneQueue, count: int) -> list[AuditRecord]:
        taken = real(self, queue, count)
        for _ in taken:
            queue.entries.popleft()
            self._count -= 1
        return taken

    patch.setattr(AuditQueue, "first", first)
    return _nothing


def producer_kept_after_an_error(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    patch.setattr(AuditEmitter, "_close_output", lambda *_: None)
    return _nothing


def memory_kept_over_a_reopen(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    def change(_: Simulation) -> None:
        kept = StateCache()
        patch.setattr("core_tables.consumer.lifecycle.StateCache", lambda: kept)

    return change


def queue_kept_over_a_reopen(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    real = AuditQueue.open

    def open_(self: AuditQueue, lane: int, audited: int, start: int) -> None:
        if lane not in self._lanes:
            real(self, lane, audited, start)

    patch.setattr(AuditQueue, "open", open_)
    patch.setattr(AuditQueue, "drop", lambda *_: None)
    return _nothing


def dropped_queue_still_emits(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    def first(self: AuditQueue, queue: LaneQueue, count: int) -> list[AuditRecord]:
        del self
        return list(queue.entries)[:count]

    patch.setattr(AuditQueue, "first", first)
    return _nothing


def stale_message_taken_for_a_gap(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    real = Worker._look_into_gaps

    def look(self: Worker, batch: Any) -> None:
        wanted = dict(batch.skipped.values())
        asked = self._find_gaps
        self._find_gaps = lambda _partition, start: {start: wanted[start]}
        real(self, batch)
        self._find_gaps = asked

    patch.setattr(Worker, "_look_into_gaps", look)
    return _nothing


def keys_forgotten_with_a_state(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    """A work order that Postgres has is treated as one that was seen from its first event on."""
    patch.setattr("core_tables.consumer.lane.ANY_KEY", 0)
    return _nothing


def gaps_not_believed(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    patch.setattr(Broker, "gaps", lambda *_: {})
    return _nothing


def watermark_not_monotone(_: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    """A commit writes the audited watermark even if it is lower."""

    def change(run: Simulation) -> None:
        run.database.audited_falls = True

    return change


def watermark_of_the_opening(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    """An emptied audit partition is answered with the audited watermark as this worker knows it."""
    patch.setattr(AuditEmitter, "_audited_now", lambda _, queue: queue.audited)
    return _nothing


def status_before_forgotten_in_a_recall(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    def recall(self: Store, records: Any) -> list[Any]:
        return [replace(decided, status_before=None) for decided in real(self, records)]

    real = Store.recall
    patch.setattr(Store, "recall", recall)
    return _nothing


def lease_forgotten_with_a_state(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    """A step's claim is judged without the lease that only the tables have."""
    real = Committed._loaded_state
    patch.setattr(Committed, "_loaded_state", lambda *at: (state := real(*at)) and replace(state, lease=None))
    return _nothing


def registration_without_epoch(_: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    """A worker that has read the schemas before refuses records of the later one."""

    def change(run: Simulation) -> None:
        run.registration_raises_epoch = False

    return change


def ends_asked_before_the_lanes_are_held(_: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    """Records that a worker decided meanwhile lie above them, and a failover may have lowered `applied`."""

    def change(run: Simulation) -> None:
        run.ends_asked_early = True

    return change


def schemas_kept_over_a_reopen(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    def change(_: Simulation) -> None:
        patch.setattr("core_tables.consumer.lifecycle.lane_schemas", lambda _: KNOWN_SCHEMAS)

    return change


def audit_dropped_at_a_stop(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    real = LaneLifecycle.stop

    def stop(
        self: LaneLifecycle, lane: Lane, error: CoreTablesError, at: int | None = None, *, audit: bool = True
    ) -> None:
        del audit
        real(self, lane, error, at, audit=False)

    patch.setattr(LaneLifecycle, "stop", stop)
    return _nothing


def stopped_lane_not_compared(patch: pytest.MonkeyPatch) -> Callable[[Simulation], None]:
    """A failover forgets the last batch before a stop, and nobody folds it again."""
    patch.setattr(LaneLifecycle, "compared", LaneLifecycle.opened)
    return _nothing


# Each defect, and among which seeds the simulation must have found it.
DEFECTS: dict[Plant, range] = {
    no_compare_and_set: range(20),
    recall_outside_the_guard: range(100, 150),  # two of 345 seeds find it
    tail_read_before_init: range(100),
    start_at_applied_only: range(50),
    watermark_that_outruns_the_audit: range(50),
    no_idle_check: range(50),
    repair_without_epoch: range(300),
    repair_unseen_by_the_cache: range(100),
    cache_filled_without_fence: range(100),
    cache_label_adopted: range(400),
    cache_read_one_by_one: range(100),
    cached_nonce_not_compared: range(100),
    cached_list_read_as_whole: range(100),
    cached_list_filled_without_marker: range(100),
    cached_list_cut_without_marker: range(100),
    cached_entry_left_where_it_was: range(100),
    commit_tried_again: range(400),
    queue_entry_dropped_before_its_commit_is_confirmed: range(50),
    producer_kept_after_an_error: range(50),
    memory_kept_over_a_reopen: range(50),
    queue_kept_over_a_reopen: range(800),
    dropped_queue_still_emits: range(50),
    stale_message_taken_for_a_gap: range(50),
    keys_forgotten_with_a_state: range(300),
    gaps_not_believed: range(50),
    watermark_not_monotone: range(600),
    watermark_of_the_opening: range(400),
    status_before_forgotten_in_a_recall: range(50),
    lease_forgotten_with_a_state: range(50),
    registration_without_epoch: range(50),
    ends_asked_before_the_lanes_are_held: range(150, 200),
    schemas_kept_over_a_reopen: range(50),
    audit_dropped_at_a_stop: range(50),
    stopped_lane_not_compared: range(50),
}
