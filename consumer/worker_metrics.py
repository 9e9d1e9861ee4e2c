"""The metrics of a worker, made of what it has in memory when somebody asks (docs/OPERATIONS.md, "Metrics").

Gauges are never kept: a lane that was handed over is gone with the next scrape. Another thread asks, so everything here only reads.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from core_tables.consumer.counts import WorkerCounts
from core_tables.consumer.lane import Lane, reached
from core_tables.consumer.metric_families import counter, gauge, histogram
from core_tables.consumer.probes import LANE_STATES, lane_state
from core_tables.consumer.timer import Clock
from core_tables.consumer.worker import Worker
from core_tables.kafka.current_ends import Ends
from core_tables.projection.cache.pending_cache import PendingCache
from core_tables.projection.fold.evolve import FOLD_VERSION
from core_tables.schemas.reasons import stop_cause


class WorkerCollector(Collector):
    """Collects the metrics of one worker; of none until it is built."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._followed: tuple[Worker, Callable[[], Ends], Mapping[str, str]] | None = None

    def follow(self, worker: Worker, ends: Callable[[], Ends], group: str) -> None:
        """Collect from this worker from now on."""
        info = {
            "version": version("core-tables"),
            "fold_version": str(FOLD_VERSION),
            "audit": str(worker.audit is not None).lower(),
            "topic": worker.topic.topic,
            "group": group,
        }
        self._followed = worker, ends, info

    def describe(self) -> Sequence[Metric]:
        """Nothing is asked of a worker that is not there yet."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics but those of the process."""
        if self._followed is None:
            return
        worker, ends, info = self._followed
        yield gauge("worker_info", "What a worker runs and reads; the value is 1", {tuple(info.values()): 1}, *info)
        lanes = {str(lane.lane): lane for lane in sorted(worker.lanes.values(), key=lambda lane: lane.lane)}
        yield from self._states(lanes)
        yield from self._positions(lanes, ends(), worker)
        yield from self._threads(worker)
        yield from self._memory(lanes, worker.cache)
        yield from _counted(worker.counts)

    def _states(self, lanes: Mapping[str, Lane]) -> Iterator[Metric]:
        states = {
            (name, state): float(lane_state(lane) == state) for name, lane in lanes.items() for state in LANE_STATES
        }
        yield gauge("lane_state", "Whether a lane of this worker is in a state", states, "lane", "state")
        stopped = {(name, stop_cause(lane.stopped)): 1.0 for name, lane in lanes.items() if lane.stopped is not None}
        yield gauge("lane_stopped_info", "Why a lane stopped; the value is 1", stopped, "lane", "cause")

    def _positions(self, lanes: Mapping[str, Lane], ends: Ends, worker: Worker) -> Iterator[Metric]:
        now, audit = self._clock(), worker.audit
        known = {name: ends[lane.partition] for name, lane in lanes.items() if lane.partition in ends}
        audited = {name: max(lane.audited, audit.confirmed(lane.lane) if audit else 0) for name, lane in lanes.items()}
        lags = {name: max(0, end.high - reached(lanes[name])) for name, end in known.items()}
        behind = {name: lane.behind.behind_s(now) for name, lane in lanes.items()}
        values = {
            "applied": {name: float(lane.applied) for name, lane in lanes.items()},
            "audited": {name: float(offset) for name, offset in audited.items()},
            "log_end": {name: float(end.high) for name, end in known.items()},
            "last_stable": {name: float(end.stable) for name, end in known.items()},
        }
        yield gauge("lane_applied_offset", "The next offset to be folded", values["applied"], "lane")
        yield gauge(
            "lane_audited_offset", "The next offset whose outcome is to be published", values["audited"], "lane"
        )
        yield gauge("lane_log_end_offset", "The end of the lane's log", values["log_end"], "lane")
        text = "The end of what is committed; below the end of the log while a transaction is open"
        yield gauge("lane_last_stable_offset", text, values["last_stable"], "lane")
        yield gauge("lane_lag_records", "How many offsets are still to be folded", lags, "lane")
        yield gauge("lane_behind_seconds", "Seconds since the lane was folded to the end of its log", behind, "lane")
        if audit is not None:
            waiting = {name: max(0.0, float(lane.applied - audited[name])) for name, lane in lanes.items()}
            yield gauge("audit_lag_records", "How many outcomes of a lane are still to be published", waiting, "lane")
            behind = {name: lane.audit_behind.behind_s(now) for name, lane in lanes.items()}
            text = "Seconds since all outcomes of the lane were published"
            yield gauge("audit_behind_seconds", text, behind, "lane")

    def _threads(self, worker: Worker) -> Iterator[Metric]:
        wall, now, audit = time.time(), self._clock(), worker.audit
        turns = {"fold": wall - (now - worker.turned_at)}
        if audit is not None:
            turns["audit"] = wall - audit.silent_s()
            yield gauge("audit_queue_records", "Outcomes that wait to be published", {(): audit.size()})
            yield gauge(
                "audit_queue_limit_records", "How many outcomes may wait before fetching pauses", {(): audit.limit}
            )
        paused = float(worker.pause is not None)
        yield gauge("fetch_paused", "Whether fetching is paused because the audit queue is full", {(): paused})
        yield gauge("thread_turn_timestamp_seconds", "When a thread last gave a sign of life", turns, "thread")

    def _memory(self, lanes: Mapping[str, Lane], cache: PendingCache | None) -> Iterator[Metric]:
        held = sum(len(lane.states) for lane in lanes.values())
        yield gauge("states_in_memory", "Work orders whose state is in memory", {(): held})
        if cache is not None:
            yield counter("cache_moves", "Labels of lanes that were written to the cache", cache.moves, "result")
            yield counter("cache_failures", "Calls to the cache that failed", {(): cache.failures})


def _counted(counts: WorkerCounts) -> Iterator[Metric]:
    yield counter("records", "Records that were decided and committed", counts.records, "outcome", "reason")
    yield counter("batches", "Batches, by what became of them", counts.batches, "result")
    yield counter(
        "state_lookups", "Work orders of batches, by whether their state was in memory", counts.lookups, "found"
    )
    yield counter("reopens", "How often lanes were reopened", counts.reopens, "cause")
    yield counter("rebalances", "How often the group changed the lanes of this worker", counts.rebalances, "kind")
    yield counter("fetch_pauses", "How often fetching was paused", {(): counts.pauses})
    yield counter("audit_reopens", "How often audit producers were replaced", counts.audit_reopens, "cause")
    text = "Seconds from the broker's time of the newest record of a lane in a batch to its commit"
    yield histogram("commit_age_seconds", text, {(): counts.commit_ages})
    yield histogram("batch_seconds", "How long a batch took", {(): counts.batch_durations})
    yield histogram("batch_step_seconds", "How long a step of a batch took", counts.step_durations, "step")
