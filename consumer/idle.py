"""What a worker does once a second, and after each reconnect to Postgres: step 6 of its rule (worker.py)."""

from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import KafkaException, TopicPartition

from core_tables.consumer.dependencies import WorkerDependencies
from core_tables.consumer.health_file import health_of, write_health
from core_tables.consumer.lane import Lane, Trouble, number_of, reached
from core_tables.consumer.lifecycle import LaneLifecycle
from core_tables.consumer.sessions import Session
from core_tables.consumer.timer import Clock, Timer
from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.projection.cache.pending_cache import CacheMove
from core_tables.schemas.reasons import CoreTablesError, FatalClientError, UnavailableError

IDLE_S: Final = 1.0
SUMMARY_S: Final = 5.0


class IdleChecks:
    """Checks that what the worker has in memory is still true, and shows others how far it is."""

    def __init__(
        self,
        lifecycle: LaneLifecycle,
        dependencies: WorkerDependencies,
        settings: WorkerSettings,
        log: Any,
        clock: Clock,
    ) -> None:
        self._lifecycle = lifecycle
        self._consumer = dependencies.consumer
        self._postgres = dependencies.postgres
        self._cache = dependencies.cache
        self._audit = dependencies.audit
        self._ask_broker = dependencies.check_topics
        self._check_clients = dependencies.check_clients
        self._ends = dependencies.ends
        self._health_file = settings.health_file
        self._log = log
        self._clock = clock
        self._timer = Timer(clock, IDLE_S)
        self._counts = dependencies.counts
        self._summary = Timer(clock, SUMMARY_S)
        self._summed_up = self._sums()
        self._cache_failed = set[str]()  # what was logged since the cache last answered
        self._sessions = 0  # how many sessions of Postgres had been opened at the last check

    def run_if_due(self) -> None:
        """Run the checks if a second has passed, or if the session of Postgres is a new one."""
        self._note_ends()
        if self._timer.due() or self._postgres.opened != self._sessions:
            self._run()
            if self._health_file is not None:
                silent_s = 0.0 if self._audit is None else self._audit.silent_s()
                lanes, in_group = self._lifecycle.lanes.values(), self._lifecycle.in_group
                write_health(self._health_file, health_of(lanes, in_group=in_group, audit_silent_s=silent_s))

    def close(self, *, clean: bool) -> None:
        """Remove the health file: one that is no longer written looks like a worker that hangs. With `clean`, write the watermarks.

        Else they would be written when the next worker folds: the audit has drained after the last check.
        """
        if self._health_file is not None:
            self._health_file.unlink(missing_ok=True)
        audit = self._audit
        if not clean or audit is None:
            return
        risen = [lane for lane in self._lifecycle.compared() if audit.confirmed(lane.lane) > lane.audited]
        for session, lanes in self._postgres.apart(risen, number_of):
            try:
                self._save_audited(session, lanes)
            except CoreTablesError as error:
                self._log.warning("watermarks_not_written", lanes=len(lanes), cause=error.message)

    def _run(self) -> None:
        started = self._clock()
        self._timer.restart()
        self._sessions = self._postgres.opened
        self._stop_unaudited_lanes()
        self._check_topics()
        self._report_cache()
        self._sum_up(started)
        self._lifecycle.stops.save()
        self._end_doubts()
        self._note_audited(started)
        self._ends.ask()
        compared = self._compare_rows()
        if compared:
            self._lifecycle.stops.clear([lane for lane in compared if lane.opened])
            self._renew_labels(compared, started)
            self._commit_progress()

    def _end_doubts(self) -> None:
        """A lane that was reopened and is at the end of its log again has recovered, though no batch says so."""
        for lane in self._lifecycle.opened():
            if lane.log_end is not None and lane.log_end.empty_from <= lane.next_offset:
                lane.doubt = None

    def _note_ends(self) -> None:
        """Note how far open lanes were behind when the broker was asked; while it does not answer, nothing is known."""
        answer = self._ends.answer()
        if answer is None:
            return
        for lane in self._lifecycle.opened():
            if lane.partition in answer.ends:
                lane.behind.note(reached(lane), answer.ends[lane.partition], answer.asked_at)

    def _note_audited(self, now: float) -> None:
        """Note how far the audit of the lanes is behind their fold."""
        if self._audit is not None:
            for lane in self._lifecycle.compared():
                lane.audit_behind.note(max(lane.audited, self._audit.confirmed(lane.lane)), lane.applied, now)

    def _stop_unaudited_lanes(self) -> None:
        """Stop the lanes whose audit has stopped, also those that stopped before and drained."""
        if self._audit is not None:
            for number, error in self._audit.stopped().items():
                lane = self._lifecycle.lanes.get(number - self._lifecycle.topic.first_lane)
                if lane is not None:
                    self._lifecycle.stop(lane, error, audit=False)

    def _check_topics(self) -> None:
        """Every ten seconds: stop the lanes if a topic was recreated. A broker that does not answer has not said that.

        Raises FatalClientError if a client does not find the brokers any more.
        """
        if not self._lifecycle.topic_check.due():
            return
        self._lifecycle.topic_check.restart()
        asked_at, before = self._clock(), self._lifecycle.topics_unknown
        try:
            self._ask_broker()
            self._check_clients()
            self._lifecycle.topics_unknown = None
        except FatalClientError:
            raise
        except UnavailableError as error:
            self._lifecycle.topics_unknown = Trouble(error.message, asked_at if before is None else before.since)
            self._log.warning("kafka_error", topic=self._lifecycle.topic.topic, partition=None, cause=error.message)
        except CoreTablesError as error:
            self._lifecycle.give_up(self._lifecycle.opened(), error)

    def _sums(self) -> tuple[int, int, int, int]:
        counted = {"accepted": 0, "replayed": 0, "refused": 0}
        for (outcome, _), count in self._counts.records.items():
            counted[outcome] += count
        return self._counts.batches["committed"], sum(counted.values()), counted["refused"], counted["replayed"]

    def _sum_up(self, now: float) -> None:
        """Every few seconds, log what was folded meanwhile, if anything was."""
        if not self._summary.due():
            return
        self._summary.restart()
        sums = self._sums()
        batches, records, refused, replayed = (
            after - before for before, after in zip(self._summed_up, sums, strict=True)
        )
        self._summed_up = sums
        if batches:
            self._log.info(
                "folded",
                topic=self._lifecycle.topic.topic,
                batches=batches,
                records=records,
                refused=refused,
                replayed=replayed,
                lanes=len(self._lifecycle.opened()),
                behind_s=round(max((lane.behind.behind_s(now) for lane in self._lifecycle.opened()), default=0.0), 1),
            )

    def _report_cache(self) -> None:
        """Log why the cache does not answer, each cause once, and when it answers again: lists come from Postgres meanwhile."""
        failed = None if self._cache is None else self._cache.failed
        if failed is None and self._cache_failed:
            self._log.info("cache_answers")
            self._cache_failed.clear()
        elif failed is not None and failed not in self._cache_failed:
            self._log.warning("cache_failed", cause=failed)
            self._cache_failed.add(failed)

    def _compare_rows(self) -> list[Lane]:
        """Reopen the lanes whose rows in Postgres are not as in memory, and write the audited watermarks that have risen.

        Returns the lanes whose rows are as in memory.
        """
        equal: list[Lane] = []
        for session, lanes in self._postgres.apart(self._lifecycle.compared(), number_of):
            try:
                moved = self._save_audited(session, lanes)
            except CoreTablesError as error:
                self._lifecycle.give_up([lane for lane in lanes if lane.opened], error)
                continue
            for lane in moved:
                self._lifecycle.reopen(lane, "position", "its row in Postgres is not what it was", backoff=False)
            equal += [lane for lane in lanes if lane not in moved]
        return equal

    def _save_audited(self, session: Session, lanes: Sequence[Lane]) -> list[Lane]:
        """Write the audited watermarks that have risen; returns the lanes whose rows are not as in memory, which keep theirs."""
        store = session.store()
        rows = store.lanes([lane.lane for lane in lanes])
        moved, risen = [], {}
        for lane in lanes:
            row = rows.get(lane.lane)
            if row is None or (row.applied, row.epoch) != (lane.applied, lane.epoch):
                moved.append(lane)
                continue
            lane.audited = row.audited
            if self._audit is not None and self._audit.confirmed(lane.lane) > row.audited:
                risen[lane.lane] = self._audit.confirmed(lane.lane)
        if risen:
            store.raise_audited(risen)
        return moved

    def _renew_labels(self, compared: Sequence[Lane], started: float) -> None:
        """Write the labels of the lanes that no batch touched for a second into the cache again, so that they do not expire."""
        if self._cache is None or self._postgres.opened != self._sessions:  # reconnected: all checks run again at once
            return
        quiet = [lane for lane in compared if lane.touched_at < started - IDLE_S]
        self._cache.advance([CacheMove(lane.lane, lane.epoch, lane.applied, lane.applied, ()) for lane in quiet])

    def _commit_progress(self) -> None:
        """Commit how far lanes are to the group as its offsets: for autoscalers and dashboards. The worker never reads them."""
        topic = self._lifecycle.topic.topic
        targets = [TopicPartition(topic, lane.partition, self._progress(lane)) for lane in self._lifecycle.opened()]
        try:
            if targets:
                self._consumer.commit(offsets=targets, asynchronous=True)
        except KafkaException as error:
            self._log.debug("gauge_failed", topic=topic, cause=str(error))

    def _progress(self, lane: Lane) -> int:
        """`applied`; or the end of the log, if there is no record between, and all before is audited."""
        return reached(lane) if self._audit is None or lane.audited >= lane.applied else lane.applied
