"""The worker: folds the lanes it is assigned into Postgres, and hands on what follows from that.

The rule, step by step (DESIGN, "Positions and fences"; tests/model searches every interleaving of it). Per lane:

1. Assigned: check cluster id, topic ids, partition count; read the lane row; check log start and end; on a difference
   stop with the cause. Start at min(applied, audited).
2. Fold a batch: below `applied` recall the outcome from Postgres, from `applied` on decide. Recall and write happen in
   the one guarded transaction.
3. Guard failed, or a commit's result unknown: reopen the lane (drop everything in memory, go to 1, with back-off).
   A commit is never retried.
4. Committed: notify, advance Redis, queue the outcomes for the audit thread. Its queue is bounded; when it is full,
   fetching pauses.
5. The audit thread emits (audit.py).
6. Idle, once a second, and after each Postgres reconnect: compare `applied` and `epoch` with memory, reopen if they
   differ; write the audited watermark; check the Redis label. Every ten seconds, check the topics as in 1.
7. Revoked and lost are one function: drop. Nothing is flushed or committed there.

The order of effects of a batch: guard, load, recall, fold, encode for the audit, write, commit; then notify, cache, audit
queue, memory. None of the last four can fail the fold.
"""

import gc
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from core_tables.consumer.audit_queue import AuditQueue, AuditRecord, audit_record, with_audit
from core_tables.consumer.batch import Batch, gather
from core_tables.consumer.checks import check_log, defect, no_row
from core_tables.consumer.fetched import Fetched
from core_tables.consumer.lane import MAX_BACKOFF_S, MIN_BACKOFF_S, Lane, StateCache, forget_some, remember
from core_tables.kafka.errors import translate_running
from core_tables.kafka.log import log_bounds
from core_tables.kafka.tail import TopicPorts
from core_tables.projection.cache.pending_cache import CacheMove, PendingCache, cache_ops
from core_tables.projection.fold.batch import Changed, fold_in_parts
from core_tables.projection.fold.evolve import FOLD_VERSION
from core_tables.projection.postgres.store import LanePosition, Move, Store
from core_tables.schemas.reasons import CoreTablesError, UnavailableError
from core_tables.schemas.topic import LedgerTopic

POLL_S: Final = 0.1
IDLE_S: Final = 1.0
CHECK_S: Final = 10.0
COLLECTION_S: Final = 60.0
PATIENCE_S: Final = 1.0


class Worker:
    """Folds lanes until it is told to stop, or none of its lanes can go on."""

    def __init__(
        self,
        topic: LedgerTopic,
        consumer: Consumer,
        open_store: Callable[[], Store],
        cache: PendingCache | None,
        audit: AuditQueue | None,
        topics: TopicPorts,
        log: Any,
    ) -> None:
        self.topic = topic
        self.consumer = consumer
        self.open_store = open_store
        self.cache = cache
        self.audit = audit
        self.topics = topics
        self.log = log
        self.batch_size = 8000
        self.next_size = self.batch_size  # half of a batch that Postgres did not finish, then more again
        self.states_in_memory = 20_000
        self.lanes: dict[int, Lane] = {}  # by partition
        self.fetched = Fetched(consumer, topic)
        self.store: Store | None = None
        self.paused = False
        self.patience_s = PATIENCE_S
        self.next_idle = self.next_check = self.next_collection = 0.0
        self.clock: Callable[[], float] = time.monotonic
        self.heartbeat: Callable[[], None] = lambda: None
        self.folded_records = 0
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask the worker to end after the batch at hand. May be called from a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Fold until stopped. Raises LaneStoppedError when every lane of this worker has stopped."""
        self.subscribe()
        while not self._stopping.is_set():
            self.step()
            self.end_if_nothing_is_left()

    def subscribe(self) -> None:
        """Join the group."""
        self.consumer.subscribe(
            [self.topic.topic], on_assign=self.assigned, on_revoke=self.dropped, on_lost=self.dropped
        )

    def step(self) -> None:
        """One round: open what is due, fold what one poll brings, and once a second look around."""
        self.open_lanes()
        batch = self.poll()
        if batch.records:
            self.fold(batch)
        self.look_into_gaps(batch)
        self.heed_errors(batch)
        if self.clock() >= self.next_idle:
            self.idle()
            self.heartbeat()
            self.collect_garbage()

    # -- step 1

    def assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Note the lanes; they are opened outside of the group's callback, since nothing may block it."""
        consumer.incremental_assign([])
        for target in partitions:
            self.lanes[target.partition] = Lane(self.topic.first_lane + target.partition, target.partition)
        self.log.info("assigned", partitions=sorted(target.partition for target in partitions))

    def open_lanes(self) -> None:
        """Open the lanes that were assigned or reopened, when their back-off is over."""
        now = self.clock()
        due = [lane for lane in self.lanes.values() if not lane.opened and not lane.stopped and lane.retry_at <= now]
        if not due:
            return
        try:
            self.topics.check()
            self.next_check = self.clock() + CHECK_S
            positions = self.connected().lanes([lane.lane for lane in due])
        except CoreTablesError as error:
            self.give_up(due, error)
            return
        for lane in due:
            try:
                self.open_lane(lane, positions.get(lane.lane))
            except CoreTablesError as error:
                self.give_up([lane], error)
                if error.retryable:
                    return  # the others are due at the next step: each might wait as long, and the group with it

    def open_lane(self, lane: Lane, position: LanePosition | None) -> None:
        """Check that a lane can go on where Postgres says it is, and begin to fetch there with nothing in memory."""
        if position is None:
            raise no_row(lane.lane)
        if position.fold_version != FOLD_VERSION:
            self.log.warning("other_fold_version", lane=lane.lane, tables=position.fold_version, ours=FOLD_VERSION)
        lane.applied, lane.epoch, lane.audited = position.applied, position.epoch, position.audited
        lane.next_offset = position.applied if self.audit is None else min(position.applied, position.audited)
        check_log(position, lane.next_offset, *log_bounds(self.consumer, self.topic.topic, lane.partition))
        lane.states, lane.gaps = StateCache(), {}
        lane.opened = True
        if self.audit is not None:
            self.audit.open(lane.lane, lane.audited, lane.next_offset)
        self.fetch(lane)
        self.log.info("lane_opened", lane=lane.lane, applied=lane.applied, start=lane.next_offset)

    def fetch(self, lane: Lane) -> None:
        """Begin to fetch a lane where the fold is."""
        self.consumer.incremental_assign([TopicPartition(self.topic.topic, lane.partition, lane.next_offset)])
        if self.paused:
            self.consumer.pause([TopicPartition(self.topic.topic, lane.partition)])

    def stop_fetching(self, lane: Lane) -> None:
        """Fetch a lane no more, and drop what was fetched of it and is not folded."""
        self.consumer.incremental_unassign([TopicPartition(self.topic.topic, lane.partition)])
        self.fetched.forget(lane.partition)

    # -- steps 2 and 3

    def poll(self) -> Batch:
        """The next batch: waits for a record if none is here, then takes what is there; in a pause, what is no record."""
        self.pause_or_resume()
        size = min(self.next_size, self.batch_size)
        reads = self.fetched.failures(POLL_S) if self.paused else self.fetched.take(size, POLL_S)
        return gather(reads, self.lanes, self.topic.first_lane)

    def look_into_gaps(self, batch: Batch) -> None:
        """Ask the log whether it has a gap where an offset was skipped, and fetch the lane anew from there."""
        for partition, (expected, came) in batch.skipped.items():
            lane = self.lanes.get(partition)
            if lane is None or not lane.opened or lane.next_offset != expected:
                continue
            try:
                lane.gaps = self.topics.gaps(partition, expected)
            except CoreTablesError as error:
                self.give_up([lane], error)
            else:
                self.log.info("gap", lane=lane.lane, expected=expected, came=came, gaps=len(lane.gaps))
                self.stop_fetching(lane)
                self.fetch(lane)

    def heed_errors(self, batch: Batch) -> None:
        """What came in the place of messages. Where the log has not got what is fetched, step 1 tells the cause."""
        for error in batch.errors:
            cause = translate_running(error)
            if not cause.retryable:
                raise cause
            self.log.warning("kafka_error", cause=cause.sentence)
            self.next_check = 0.0  # a topic that is unknown may be another when it is known again
        opened = {partition: lane for partition, lane in self.lanes.items() if lane.opened}
        for partition in batch.lost.keys() & opened.keys():
            self.reopen(opened[partition], batch.lost[partition].sentence, backoff=True)
        for partition, (offset, stop) in batch.stops.items():
            if partition in opened and opened[partition].next_offset == offset:  # else what lies before was not folded
                self.stop_lane(opened[partition], stop)

    def fold(self, batch: Batch) -> None:
        """Fold a batch; a defect stops the lane it is in, whose batch then is folded alone."""
        partitions = sorted(batch.records)  # rows are locked in this order, as a repair locks them
        try:
            self.fold_lanes(batch, partitions)
        except UnavailableError as error:
            self.next_size = max(1, sum(map(len, batch.records.values())) // 2)
            self.unavailable([self.lanes[partition] for partition in partitions], error)
        except Exception as error:  # whatever it is, it is a defect of ours or of the set-up: never skip the record
            self.disconnect()
            if len(partitions) > 1:
                for partition in [partition for partition in partitions if partition in batch.records]:
                    self.fold(batch.only(partition))
                return
            self.log.exception("fold_failed", lane=self.lanes[partitions[0]].lane)
            cause = error if isinstance(error, CoreTablesError) else defect("the fold failed", error)
            self.stop_lane(self.lanes[partitions[0]], cause)

    def fold_lanes(self, batch: Batch, partitions: Sequence[int]) -> None:
        """Guard, load, recall, fold, write, commit: one transaction, in three round trips."""
        started = self.clock()
        store = self.connected()
        recalled, records = batch.split({p: self.lanes[p].applied for p in batch.records})
        known = batch.known_states(self.lanes)
        held, loaded = store.begin([self.move(self.lanes[p], batch) for p in partitions], records, known)
        moved = [partition for partition in partitions if self.lanes[partition].lane not in held]
        if moved:
            store.rollback()
            for partition in moved:
                batch.drop(partition)
                self.reopen(self.lanes[partition], "another worker, or a repair, moved it", backoff=True)
            if batch.records:
                self.fold_lanes(batch, [partition for partition in partitions if partition in batch.records])
            return
        audited = [audit_record(decided) for decided in store.recall(recalled)] if recalled else []
        changed: Changed = {}
        if records:
            parts = fold_in_parts(records, loaded, changed)
            ahead = partial(self.fetched.read_ahead, self.batch_size) if self.fetched.ahead() else None
            store.write(parts if self.audit is None else with_audit(parts, audited), changed, ahead)
        applied = {self.lanes[p].lane: end for p, end in batch.ends.items() if end > self.lanes[p].applied}
        if not store.commit(applied):
            self.log.warning("notify_failed")  # a wake-up that is lost costs whoever waits a quarter of a second
        self.committed(batch, audited, changed)
        self.folded_records += len(records)
        self.next_size = min(self.batch_size, self.next_size + 1 + self.next_size // 20)
        remember({p: self.lanes[p] for p in batch.records}, self.topic.partitions, known, changed, loaded)
        forget_some(self.lanes, batch.records, self.states_in_memory)
        self.log.info(
            "batch_committed",
            lanes=len(batch.records),
            records=len(records),
            recalled=len(recalled),
            work_orders=len(loaded.states),
            in_memory=len(known),
            ms=round((self.clock() - started) * 1000, 1),
        )

    def move(self, lane: Lane, batch: Batch) -> Move:
        """What the batch does to a lane."""
        reached = max(lane.applied, batch.ends[lane.partition])
        audited = self.audit.position(lane.lane) if self.audit is not None else 0
        return Move(lane.lane, lane.applied, lane.epoch, reached, audited)

    def reopen(self, lane: Lane, cause: str, *, backoff: bool) -> None:
        """Drop what is in memory of a lane and begin again at step 1."""
        if backoff:
            lane.retry_at = self.clock() + lane.backoff_s
            lane.backoff_s = min(MAX_BACKOFF_S, 2 * lane.backoff_s)
        self.log.warning("lane_reopens", lane=lane.lane, cause=cause, backoff_s=lane.backoff_s)
        self.close_lane(lane)

    def close_lane(self, lane: Lane) -> None:
        """Stop fetching a lane and forget it; its queue goes too."""
        if lane.opened:
            lane.opened = False
            self.stop_fetching(lane)
        lane.states = StateCache()
        if self.audit is not None:
            self.audit.drop(lane.lane)

    def stop_lane(self, lane: Lane, error: CoreTablesError) -> None:
        """Give a lane up until a person has looked. Nothing of it is skipped or parked."""
        lane.stopped = error
        self.log.error(
            "lane_stopped", lane=lane.lane, partition=lane.partition, offset=lane.next_offset, cause=error.sentence
        )
        self.close_lane(lane)

    def give_up(self, lanes: Sequence[Lane], error: CoreTablesError) -> None:
        """What went wrong is true of all these lanes, and of no other: reopen them if it may pass, else stop them."""
        if isinstance(error, UnavailableError):
            self.unavailable(lanes, error)
            return
        for lane in lanes:
            self.stop_lane(lane, error)

    def unavailable(self, lanes: Sequence[Lane], error: UnavailableError) -> None:
        """Something is down: reopen, with back-off, for as long as it takes."""
        if error.dependency == "postgres":
            self.disconnect()
        for lane in lanes:
            self.reopen(lane, error.sentence, backoff=True)

    # -- step 4

    def committed(self, batch: Batch, audited: list[AuditRecord], changed: Changed) -> None:
        """Hand on what a commit made true; nothing here can fail the fold."""
        now = self.clock()
        ops = cache_ops(changed.values()) if self.cache is not None else {}
        moves = []
        for partition, end in batch.ends.items():
            lane = self.lanes[partition]
            before, lane.applied = lane.applied, max(lane.applied, end)
            lane.next_offset, lane.touched_at, lane.backoff_s = end, now, MIN_BACKOFF_S
            if lane.applied > before:
                moves.append(CacheMove(lane.lane, lane.epoch, before, lane.applied, ops.get(lane.lane, ())))
        if self.cache is not None:
            self.cache.advance(moves)
        if self.audit is not None:
            self.audit.put(audited)

    def pause_or_resume(self) -> None:
        """Audit completeness outranks freshness: when its queue is full, fetching pauses.

        The audit gets a moment first: a pause forgets what was fetched ahead, and fetching takes a second to come back.
        """
        if self.audit is None or not (self.paused or self.audit.full()):
            return
        may_fetch = self.audit.drained(0.0 if self.paused else self.patience_s)
        if may_fetch != self.paused:  # it fetches and may, or it may not yet
            return
        opened = [TopicPartition(self.topic.topic, lane.partition) for lane in self.lanes.values() if lane.opened]
        self.paused = not self.paused
        (self.consumer.pause if self.paused else self.consumer.resume)(opened)

    # -- step 6

    def idle(self) -> None:
        """Compare positions with memory, write the audited watermark, check the cache's labels, show the group how far we are."""
        self.next_idle = self.clock() + IDLE_S
        opened = [lane for lane in self.lanes.values() if lane.opened]
        if self.audit is not None:
            for number, error in self.audit.stopped().items():
                if number - self.topic.first_lane in self.lanes:
                    self.stop_lane(self.lanes[number - self.topic.first_lane], error)
        if self.clock() >= self.next_check:
            self.check_topics(opened)
        opened = [lane for lane in opened if lane.opened]
        if not opened:
            return
        try:
            store = self.connected()
            positions = store.lanes([lane.lane for lane in opened])
            audited = {}
            for lane in opened:
                position = positions.get(lane.lane)
                if position is None or (position.applied, position.epoch) != (lane.applied, lane.epoch):
                    self.reopen(lane, "its row in Postgres is not what it was", backoff=False)
                elif self.audit is not None and self.audit.position(lane.lane) > position.audited:
                    audited[lane.lane] = self.audit.position(lane.lane)
            if audited:
                store.raise_audited(audited)
        except CoreTablesError as error:
            self.give_up([lane for lane in opened if lane.opened], error)
            return
        if self.cache is not None:
            quiet = [lane for lane in opened if lane.opened and lane.touched_at < self.next_idle - 2 * IDLE_S]
            self.cache.advance([CacheMove(lane.lane, lane.epoch, lane.applied, lane.applied, ()) for lane in quiet])
        self.show_progress([lane for lane in opened if lane.opened])

    def collect_garbage(self) -> None:
        """The command turns the collector off, since batches leave no cycles behind; errors may."""
        if self.clock() >= self.next_collection:
            self.next_collection = self.clock() + COLLECTION_S
            gc.collect(0)

    def check_topics(self, opened: Sequence[Lane]) -> None:
        """Stop if a topic was made anew meanwhile; a broker that does not answer has not said so."""
        self.next_check = self.clock() + CHECK_S
        try:
            self.topics.check()
        except UnavailableError as error:
            self.log.warning("kafka_error", cause=error.sentence)
        except CoreTablesError as error:
            self.give_up(opened, error)

    def show_progress(self, lanes: Sequence[Lane]) -> None:
        """Commit offsets to the group: a gauge for autoscaling, written, never read."""
        targets = [TopicPartition(self.topic.topic, lane.partition, lane.applied) for lane in lanes]
        try:
            if targets:
                self.consumer.commit(offsets=targets, asynchronous=True)
        except KafkaException as error:
            self.log.debug("gauge_failed", cause=str(error))

    # -- step 7

    def dropped(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Revoked or lost: forget the lanes. Nothing is flushed or committed here."""
        assigned = []
        for target in partitions:
            lane = self.lanes.pop(target.partition, None)
            if lane is not None:
                if self.audit is not None:
                    self.audit.drop(lane.lane)
                if lane.opened:
                    assigned.append(TopicPartition(target.topic, target.partition))
            self.fetched.forget(target.partition)
        consumer.incremental_unassign(assigned)
        self.log.info("dropped", partitions=sorted(target.partition for target in partitions))

    # -- the connection, and the end

    def connected(self) -> Store:
        """The store; opens a connection if there is none. Raises UnavailableError."""
        if self.store is None:
            self.store = self.open_store()
            self.next_idle = 0.0
        return self.store

    def disconnect(self) -> None:
        """Give up a connection that failed; the next use opens another."""
        if self.store is not None:
            self.store.connection.close()
            self.store = None

    def end_if_nothing_is_left(self) -> None:
        """A worker whose lanes have all stopped ends with the first cause, instead of looking alive."""
        stopped = [lane.stopped for lane in self.lanes.values() if lane.stopped is not None]
        if stopped and len(stopped) == len(self.lanes):
            raise stopped[0]
