"""The life of a lane in a worker: assigned, opened, reopened or stopped, and at last revoked or lost.

Steps 1, 3, 7 and 8 of the worker's rule (worker.py).
"""

from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from core_tables.consumer.caught_up import CaughtUp
from core_tables.consumer.checks import check_log, no_row
from core_tables.consumer.counts import ReopenCause
from core_tables.consumer.dependencies import WorkerDependencies
from core_tables.consumer.fetcher import Fetcher
from core_tables.consumer.lane import MAX_BACKOFF_S, Lane, StateCache, Trouble, number_of
from core_tables.consumer.lane_stops import LaneStops
from core_tables.consumer.timer import Clock, Timer
from core_tables.kafka.log import log_bounds
from core_tables.projection.fold.evolve import FOLD_VERSION
from core_tables.projection.postgres.lanes import LanePosition
from core_tables.projection.postgres.registrations import check_registered
from core_tables.schemas.reasons import CoreTablesError, SetupError, UnavailableError, UnknownSchemaError
from core_tables.schemas.topic import LedgerTopic
from core_tables.schemas.wire import lane_schemas

TOPIC_CHECK_S: Final = 10.0
DRAIN_S: Final = 60.0


class LaneLifecycle:
    """The lanes that this worker was assigned, by partition, and every way in which one begins or ends.

    `assigned`, `revoked` and `lost` are the group's callbacks. `topic_check` says when the topics are to be checked again.
    `stops`: why lanes stopped. `outside`: why the worker is not in its group, until that has assigned lanes, if only none;
    `joined`: it has been. `topics_unknown`: why the topics could not be checked the last time, if so.
    """

    def __init__(
        self, topic: LedgerTopic, dependencies: WorkerDependencies, fetcher: Fetcher, log: Any, clock: Clock
    ) -> None:
        self.topic = topic
        self.lanes: dict[int, Lane] = {}
        self.topic_check = Timer(clock, TOPIC_CHECK_S)
        self.outside: Trouble | None = Trouble("it has not joined its consumer group yet", clock())
        self.joined = False
        self.topics_unknown: Trouble | None = None
        self._ends_at: float | None = None  # when a worker whose lanes have all stopped ends at the latest
        self._consumer = dependencies.consumer
        self._postgres = dependencies.postgres
        self._audit = dependencies.audit
        self._check_topics = dependencies.check_topics
        self._counts = dependencies.counts
        self.stops = LaneStops(dependencies.postgres, dependencies.name, log, clock)
        self._fetcher = fetcher
        self._log = log
        self._clock = clock

    @property
    def in_group(self) -> bool:
        """Whether the group has assigned lanes, if only none, and they were not lost since."""
        return self.outside is None

    @property
    def fetching_paused(self) -> bool:
        """Whether nothing is fetched because the audit queue is full."""
        return self._fetcher.paused

    def opened(self) -> list[Lane]:
        """The lanes that are open: they are fetched and folded."""
        return [lane for lane in self.lanes.values() if lane.opened]

    def compared(self) -> list[Lane]:
        """The lanes whose rows in Postgres must be as in memory: those that are open, or were until they stopped."""
        return [lane for lane in self.lanes.values() if lane.opened or lane.drains]

    # -- step 1: assigned, and opened

    def assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """The group assigned lanes. They are opened by `open_due`: nothing may block in a callback.

        A partition that the topic was given after its lanes were made has none, and is left alone.
        """
        consumer.incremental_assign([])
        self._counts.rebalances["assigned"] += 1
        self.outside, self.joined, now = None, True, self._clock()
        for target in partitions:
            if target.partition >= self.topic.partitions:
                self._log.warning("partition_without_lane", topic=self.topic.topic, partition=target.partition)
                continue
            self.lanes[target.partition] = Lane(
                self.topic.first_lane + target.partition,
                target.partition,
                behind=CaughtUp(now),
                audit_behind=CaughtUp(now),
                since=now,
            )
        self._log.info("assigned", topic=self.topic.topic, partitions=sorted(target.partition for target in partitions))

    def open_due(self) -> None:
        """Open the lanes that were assigned, and those that were reopened and whose back-off is over."""
        now = self._clock()
        due = [lane for lane in self.lanes.values() if not lane.opened and not lane.stopped and lane.retry_at <= now]
        if not due:
            return
        try:
            self._check_topics()
        except CoreTablesError as error:
            self.give_up(due, error)
            return
        for session, lanes in self._postgres.apart(due, number_of):
            try:
                rows = session.store().lanes([lane.lane for lane in lanes])
            except CoreTablesError as error:
                self.give_up(lanes, error)
                continue
            for lane in lanes:
                try:
                    self._open(lane, rows.get(lane.lane))
                except CoreTablesError as error:
                    self.give_up([lane], error)
                    if error.retryable:
                        return  # the others remain due: each might wait as long, and the group would wait with it

    def _open(self, lane: Lane, row: LanePosition | None) -> None:
        """Check that a lane can continue where Postgres says it is, and begin to fetch there with nothing in memory."""
        if row is None:
            raise no_row(lane.lane)
        check_registered(row.lane, row.schemas)
        if row.fold_version != FOLD_VERSION:
            self._log.warning(
                "other_fold_version",
                lane=lane.lane,
                topic=self.topic.topic,
                partition=lane.partition,
                tables=row.fold_version,
                ours=FOLD_VERSION,
            )
        lane.applied, lane.epoch, lane.audited = row.applied, row.epoch, row.audited
        lane.next_offset = row.applied if self._audit is None else min(row.applied, row.audited)
        check_log(row, lane.next_offset, *log_bounds(self._consumer, self.topic.topic, lane.partition))
        lane.states, lane.gaps, lane.schemas = StateCache(), {}, lane_schemas(row.schemas)
        lane.unread_at = lane.log_end = None
        lane.opened, lane.opened_at = True, self._clock()
        lane.since = lane.opened_at
        if self._audit is not None:
            self._audit.open(lane.lane, lane.audited, lane.next_offset)
        self._fetcher.start(lane.partition, lane.next_offset, lane.schemas)
        self._log.info(
            "lane_opened",
            lane=lane.lane,
            topic=self.topic.topic,
            partition=lane.partition,
            offset=lane.next_offset,
            applied=lane.applied,
        )

    # -- step 3: reopened

    def give_up(self, lanes: Sequence[Lane], error: CoreTablesError) -> None:
        """An error concerns all of these lanes and no others: reopen them if it may pass, else stop them."""
        if not isinstance(error, UnavailableError):
            for lane in lanes:
                self.stop(lane, error)
            return
        if error.dependency == "postgres":
            for session, _ in self._postgres.apart(lanes, number_of):
                session.close()
        for lane in lanes:
            self.reopen(lane, error.dependency, error.message, backoff=True)

    def reopen(self, lane: Lane, kind: ReopenCause, cause: str, *, backoff: bool) -> None:
        """Drop what is in memory of a lane; `open_due` begins again at step 1, after a back-off if asked for."""
        now = self._clock()
        self._counts.reopens[kind] += 1
        if lane.opened or lane.stopped is not None:
            lane.since = now
        lane.doubt = Trouble(cause, now if lane.doubt is None else lane.doubt.since)
        if backoff:
            lane.retry_at = now + lane.backoff_s
            lane.backoff_s = min(MAX_BACKOFF_S, 2 * lane.backoff_s)
        self._log.warning(
            "lane_reopens",
            lane=lane.lane,
            topic=self.topic.topic,
            partition=lane.partition,
            offset=lane.next_offset,
            cause=cause,
            backoff_s=lane.backoff_s,
        )
        lane.stopped, lane.drains = None, False
        self._close(lane)
        self._drop_audit(lane)

    # -- step 8: stopped

    def stop(self, lane: Lane, error: CoreTablesError, offset: int | None = None, *, audit: bool = True) -> None:
        """Stop a lane at an offset, or where it is: an operator must look at it. No record is skipped.

        What is committed still goes to the audit topic, unless it is not the topic it was, or the audit itself (`audit` is
        false) is what stopped.
        """
        lane.drains = lane.opened and audit and not (isinstance(error, SetupError) and error.subject == "topic")
        if lane.stopped is None:
            lane.stopped, lane.since = error, self._clock()
        at = lane.next_offset if offset is None else offset
        self.stops.add(lane, at, error)
        self._log_stop(lane, error, at)
        self._close(lane)
        if not lane.drains:
            self._drop_audit(lane)

    def _log_stop(self, lane: Lane, error: CoreTablesError, offset: int) -> None:
        if isinstance(error, UnknownSchemaError):
            self._log.error(
                "lane_waits_for_release",
                lane=lane.lane,
                topic=self.topic.topic,
                partition=lane.partition,
                offset=offset,
                cause=error.message,
            )
        else:
            self._log.error(
                "lane_stopped",
                lane=lane.lane,
                topic=self.topic.topic,
                partition=lane.partition,
                offset=offset,
                cause=error.message,
            )

    def _close(self, lane: Lane) -> None:
        """Stop fetching a lane, and drop its states."""
        if lane.opened:
            lane.opened = False
            self._fetcher.stop([lane.partition])
        lane.states = StateCache()

    def _drop_audit(self, lane: Lane) -> None:
        if self._audit is not None:
            self._audit.drop(lane.lane)

    def raise_if_all_stopped(self) -> None:
        """Raise the first cause if every lane has stopped: the worker ends, since it would only look alive.

        First, and for DRAIN_S at most, what is committed goes to the audit topic.
        """
        causes = [lane.stopped for lane in self.lanes.values() if lane.stopped is not None]
        if not causes or len(causes) < len(self.lanes):
            self._ends_at = None
            return
        if self._ends_at is None:
            self._ends_at = self._clock() + DRAIN_S
        if self._clock() >= self._ends_at or all(map(self._drained, self.lanes.values())):
            self.stops.save()
            raise causes[0]

    def _drained(self, lane: Lane) -> bool:
        """Whether all that a stopped lane has to say is in the audit topic, and Postgres knows."""
        return self._audit is None or not lane.drains or lane.audited >= min(lane.applied, lane.next_offset)

    # -- step 7: revoked, or lost

    def revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """The group took lanes away: forget them. Nothing is flushed or committed."""
        self._counts.rebalances["revoked"] += 1
        self._forget(partitions, lost=False)

    def lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """The group took lanes away after a timeout: the same, since the guard of each batch knows who else has them.

        Perhaps nobody has: if the broker is gone, this worker is not ready until the group has it back.
        """
        self.outside = Trouble("the group took its lanes away after a timeout", self._clock())
        self._counts.rebalances["lost"] += 1
        self._forget(partitions, lost=True)

    def _forget(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        opened = []
        for target in partitions:
            lane = self.lanes.pop(target.partition, None)
            if lane is not None:
                self._drop_audit(lane)
                if lane.opened:
                    opened.append(target.partition)
            self._fetcher.forget(target.partition)
        self._fetcher.stop(opened)
        self._log.info(
            "dropped", topic=self.topic.topic, partitions=sorted(target.partition for target in partitions), lost=lost
        )
