"""The worker: folds the lanes that it is assigned into Postgres, and passes on what follows from that.

The rule, step by step, for each lane (tests/model searches every interleaving of it):

1. Assigned: check cluster id, topic ids and partition count; read the lane's row; check start and end of the log. On a
   difference, stop with the cause. Start at min(applied, audited). (lifecycle.py)
2. Fold a batch: below `applied`, recall the outcome from Postgres; from `applied` on, decide. Recall and write happen in
   the one guarded transaction.
3. The guard failed, or the result of a commit is unknown: reopen the lane (drop everything in memory, back to step 1, with
   back-off). A commit is never retried. (lifecycle.py)
4. Committed: notify, advance Redis, queue the outcomes for the audit thread. Its queue is bounded; when it is full,
   fetching pauses.
5. The audit thread emits. (audit_emitter.py)
6. Once a second, and after each reconnect to Postgres: compare `applied` and `epoch` with memory, and reopen the lane if
   they differ; write the audited watermark; renew the Redis label. Every ten seconds, check the topics as in step 1. (idle.py)
7. Revoked, or lost after a timeout: forget the lane. Nothing is flushed or committed. (lifecycle.py)
8. Stopped: nothing more is fetched or folded. What is committed still goes to the audit topic, and step 6 still compares the
   row. (lifecycle.py)

The order of effects of a batch: guard, load, recall, fold, encode for the audit, write, commit; then notify, cache, audit
queue, memory. None of the last four can fail the fold.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from core_tables.consumer.audit_encoding import audit_record, with_audit
from core_tables.consumer.audit_record import AuditRecord
from core_tables.consumer.checks import defect
from core_tables.consumer.counts import with_others
from core_tables.consumer.dependencies import WorkerDependencies
from core_tables.consumer.fetcher import Fetcher
from core_tables.consumer.idle import IdleChecks
from core_tables.consumer.lane import MIN_BACKOFF_S, Lane, Trouble, forget_some, remember
from core_tables.consumer.lifecycle import LaneLifecycle
from core_tables.consumer.polled_batch import Batch, gather
from core_tables.consumer.sessions import Session
from core_tables.consumer.timer import Clock
from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.kafka.errors import is_fatal, translate_running, unusable
from core_tables.projection.cache.pending_cache import CacheMove, cache_ops
from core_tables.projection.fold.batch import fold_in_parts
from core_tables.projection.fold.values import Changed
from core_tables.projection.postgres.keys import Move
from core_tables.schemas.identity import offset_of
from core_tables.schemas.outcomes import Outcome
from core_tables.schemas.reasons import CoreTablesError, SetupError, UnavailableError
from core_tables.schemas.topic import LedgerTopic

POLL_S: Final = 0.1


class Worker:
    """Folds lanes until it is asked to stop, or all of its lanes have stopped. Other threads may read what is public."""

    def __init__(
        self,
        topic: LedgerTopic,
        settings: WorkerSettings,
        dependencies: WorkerDependencies,
        log: Any,
        clock: Clock = time.monotonic,
    ) -> None:
        self.topic = topic
        self.name = dependencies.name
        self.folded_records = 0
        self._settings = settings
        self._consumer = dependencies.consumer
        self._postgres = dependencies.postgres
        self.cache = dependencies.cache
        self.audit = dependencies.audit
        self.counts = dependencies.counts
        self._traced = dependencies.traced
        self._find_gaps = dependencies.find_gaps
        self._log = log
        self._clock = clock
        self._fetcher = Fetcher(dependencies.consumer, topic)
        self.lifecycle = LaneLifecycle(topic, dependencies, self._fetcher, log, clock)
        self._idle = IdleChecks(self.lifecycle, dependencies, settings, log, clock)
        self._lanes = self.lifecycle.lanes
        self.turned_at = clock()  # when it last gave a sign of life
        self.pause: Trouble | None = None  # why fetching is paused
        self._next_size = settings.batch_size  # half of a batch that Postgres did not finish, then larger again
        self._stopping = threading.Event()

    @property
    def lanes(self) -> Mapping[int, Lane]:
        """The lanes that this worker was assigned, by partition."""
        return self._lanes

    def run(self) -> None:
        """Fold until stopped. Raises the cause when every lane of this worker has stopped."""
        self.subscribe()
        while not self._stopping.is_set():
            self.step()
            self.lifecycle.raise_if_all_stopped()

    def stop(self) -> None:
        """Ask the worker to end after the current batch. May be called from a signal handler, or another thread."""
        self._stopping.set()

    def close(self, *, clean: bool = False) -> None:
        """Leave the group and close the connections; with `clean`, write the audited watermarks before. Raises KafkaException."""
        self._idle.close(clean=clean)
        self._postgres.close()
        self._consumer.close()

    def subscribe(self) -> None:
        """Join the group."""
        lifecycle = self.lifecycle
        self._consumer.subscribe(
            [self.topic.topic], on_assign=lifecycle.assigned, on_revoke=lifecycle.revoked, on_lost=lifecycle.lost
        )

    def step(self) -> None:
        """One round: open lanes, fold what one poll brings, deal with what it could not bring, and once a second check."""
        self.turned_at = self._clock()
        self.lifecycle.open_due()
        batch = self._poll()
        for _, partitions in self._postgres.apart(list(batch.records), self.topic.first_lane.__add__):
            self._fold(batch if len(partitions) == len(batch.records) else batch.only(*partitions))
        self._look_into_gaps(batch)
        self._handle_errors(batch)
        self._idle.run_if_due()

    # -- what one poll brings

    def _poll(self) -> Batch:
        """The next batch: waits for a record if none is here, then takes those that are; in a pause, takes errors only."""
        self._pause_or_resume()
        size = min(self._next_size, self._settings.batch_size)
        reads = self._fetcher.failures(POLL_S) if self._fetcher.paused else self._fetcher.take(size, POLL_S)
        return gather(reads, self._lanes, self.topic)

    def _pause_or_resume(self) -> None:
        """Pause fetching while the audit queue is full: a complete audit matters more than fresh tables.

        The audit thread gets a moment first: a pause drops what was fetched ahead, and fetching takes a second to recover.
        """
        if self.audit is None or not (self._fetcher.paused or self.audit.full()):
            return
        may_fetch = self.audit.drained(0.0 if self._fetcher.paused else self._settings.audit_patience_s)
        if may_fetch != self._fetcher.paused:  # it fetches and may, or it is paused and may not fetch yet
            return
        self.counts.pauses += not self._fetcher.paused
        change = self._fetcher.resume if self._fetcher.paused else self._fetcher.pause
        self.pause = Trouble("the audit queue is full", self._clock()) if self.pause is None else None
        change([lane.partition for lane in self.lifecycle.opened()])

    def _look_into_gaps(self, batch: Batch) -> None:
        """Where an offset was skipped, ask the log for its gaps, and fetch the lane again from there."""
        for partition, (expected, came) in batch.skipped.items():
            lane = self._lanes.get(partition)
            if lane is None or not lane.opened or lane.next_offset != expected:
                continue
            self.turned_at = self._clock()  # each question may wait for its whole timeout
            try:
                lane.gaps = self._find_gaps(partition, expected)
            except CoreTablesError as error:
                self.lifecycle.give_up([lane], error)
            else:
                self._log.info(
                    "gap",
                    lane=lane.lane,
                    topic=self.topic.topic,
                    partition=partition,
                    offset=expected,
                    next_offset=came,
                    gaps=len(lane.gaps),
                )
                self._fetcher.stop([partition])
                self._fetcher.start(partition, lane.next_offset, lane.schemas)

    def _handle_errors(self, batch: Batch) -> None:
        """Handle the errors that came in place of records: reopen or stop their lanes, or raise."""
        for failure in batch.failures:
            if is_fatal(failure.error):
                raise unusable(failure.error.str())
            cause = translate_running(failure.error, f"READ on the topic {self.topic.topic} and on the workers' group")
            if not cause.retryable:
                raise cause
            self._log.warning("kafka_error", topic=self.topic.topic, partition=failure.partition, cause=cause.message)
            self.lifecycle.topic_check.expire()  # a topic that is unknown now may come back as a different one
        opened = {lane.partition: lane for lane in self.lifecycle.opened()}
        for partition in batch.lost.keys() & opened.keys():  # step 1 finds out what happened to the log
            self.lifecycle.reopen(opened[partition], "log", batch.lost[partition].message, backoff=True)
        for partition, stop in batch.stops.items():
            # If the records before it could not be folded, the lane stops when they are read again.
            if partition in opened and opened[partition].next_offset == stop.expected:
                self.lifecycle.stop(opened[partition], stop.error, stop.offset)

    # -- steps 2 and 3

    def _fold(self, batch: Batch) -> None:
        """Fold a batch. After a defect, fold its parts: what can be folded is; the lane stops at the first record that cannot."""
        partitions = sorted(batch.records)  # rows are locked in this order, as a repair locks them
        session = self._postgres.of_lane(self.topic.first_lane + partitions[0])
        try:
            self._fold_lanes(batch, partitions, session)
        except UnavailableError as error:
            self.counts.batches["failed"] += 1
            self._next_size = max(1, sum(map(len, batch.records.values())) // 2)
            self.lifecycle.give_up([self._lanes[partition] for partition in partitions], error)
        except Exception as error:  # whatever it is, it is a defect of ours or of the set-up: never skip the record
            self.counts.batches["failed"] += 1
            session.close()
            parts = batch.parts(halved=not isinstance(error, SetupError))  # what is not permitted is not for any record
            for part in parts:
                if all(self._lanes[partition].opened for partition in part.records):
                    self._fold(part)
            if not parts:
                self._stop_at_first(batch, error)

    def _stop_at_first(self, batch: Batch, error: Exception) -> None:
        """Stop a lane at the first record of a batch that cannot be folded."""
        ((partition, records),) = batch.records.items()
        lane, offset = self._lanes[partition], offset_of(records[0].event_id)
        self._log.exception("fold_failed", lane=lane.lane, topic=self.topic.topic, partition=partition, offset=offset)
        cause = error if isinstance(error, CoreTablesError) else defect("the fold failed", error)
        self.lifecycle.stop(lane, cause, offset)

    def _fold_lanes(self, batch: Batch, partitions: Sequence[int], session: Session) -> None:
        """Guard, load, recall, fold, write, commit: one transaction in one database, in three round trips."""
        started = self.turned_at = self._clock()
        store = session.store()
        recalled, records = batch.split({p: self._lanes[p].applied for p in batch.records})
        known = batch.known_states(self._lanes)
        unmoved, loaded = store.begin([self._move(self._lanes[p], batch) for p in partitions], records, known)
        moved = [partition for partition in partitions if self._lanes[partition].lane not in unmoved]
        if moved:
            store.rollback()
            self.counts.batches["moved"] += 1
            for partition in moved:
                batch.drop(partition)
                cause = "another worker, or a repair, moved it"
                self.lifecycle.reopen(self._lanes[partition], "moved", cause, backoff=True)
            if batch.records:
                self._fold_lanes(batch, [p for p in partitions if p in batch.records], session)
            return
        audit_records = [audit_record(decided) for decided in store.recall(recalled)] if recalled else []
        changed: Changed = {}
        others: list[Outcome] = []
        loaded_at = self._clock()
        if records:
            parts = with_others(fold_in_parts(records, loaded, changed), others)
            read = partial(self._fetcher.read_ahead, self._settings.batch_size)
            ahead = read if self._fetcher.may_read_ahead() else None
            store.write(parts if self.audit is None else with_audit(parts, audit_records), changed, ahead)
        applied = {self._lanes[p].lane: end for p, end in batch.ends.items() if end > self._lanes[p].applied}
        written_at = self._clock()
        if not store.commit(applied):
            # Programs that wait for an outcome ask by themselves, a quarter of a second later.
            self._log.warning("notify_failed", topic=self.topic.topic)
        self.counts.took(marks := (started, loaded_at, written_at, self._clock()))
        if self._traced is not None:
            self._traced(batch.records, marks)
        self.counts.decided(
            len(records), others, newest=[in_lanes[-1].broker_time for in_lanes in batch.records.values()]
        )
        self.counts.looked_up(len(loaded.states), in_memory=len(known))
        self._committed(batch, audit_records, changed)
        self.folded_records += len(records)
        self._next_size = min(self._settings.batch_size, self._next_size + 1 + self._next_size // 20)
        remember({p: self._lanes[p] for p in batch.records}, self.topic.partitions, known, changed, loaded)
        forget_some(self._lanes, batch.records, self._settings.states_in_memory)
        self._log.debug(
            "batch_committed",
            topic=self.topic.topic,
            lanes=len(batch.records),
            records=len(records),
            recalled=len(recalled),
            work_orders=len(loaded.states),
            in_memory=len(known),
            ms=round((self._clock() - started) * 1000, 1),
        )

    def _move(self, lane: Lane, batch: Batch) -> Move:
        """How the batch moves a lane's row, if the row is where this worker has it in memory."""
        reached = max(lane.applied, batch.ends[lane.partition])
        audited = self.audit.confirmed(lane.lane) if self.audit is not None else 0
        return Move(lane.lane, lane.applied, lane.epoch, reached, audited)

    def _committed(self, batch: Batch, audit_records: list[AuditRecord], changed: Changed) -> None:
        """Pass on what a commit made true; nothing here can fail the fold."""
        now = self._clock()
        ops = cache_ops(changed.values()) if self.cache is not None else {}
        moves = []
        for partition, end in batch.ends.items():
            lane = self._lanes[partition]
            before, lane.applied = lane.applied, max(lane.applied, end)
            lane.next_offset, lane.touched_at, lane.backoff_s, lane.doubt = end, now, MIN_BACKOFF_S, None
            if lane.applied > before:
                moves.append(CacheMove(lane.lane, lane.epoch, before, lane.applied, ops.get(lane.lane, ())))
        if self.cache is not None:
            self.cache.advance(moves)
        if self.audit is not None:
            self.audit.put(audit_records)
