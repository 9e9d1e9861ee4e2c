"""What a worker answers to probes: whether a restart would help (alive), and whether a rollout may continue (ready).

Another thread asks (http_server.py), so everything here only reads.

| state | alive | ready |
| --- | --- | --- |
| starting: it waits for Postgres, Kafka, a topic or a migration | yes | no |
| the fold or the audit has made no turn for `stands_after_s`, or the audit thread has ended | no | no |
| not in its group yet | yes | no |
| for `waits_after_s`: a lane waits, the lanes are lost, topics cannot be checked, fetching is paused, an audit fails | yes | no |
| a lane stopped for a cause that another release or other settings may remove (HALTING) | yes | no |
| a lane stopped because records are lost or cannot be read, or a topic was recreated | yes | yes |
| in its group without a lane; a lane that is behind | yes | yes |
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, Protocol

from core_tables.consumer.http_server import HttpPages, json_page
from core_tables.consumer.lane import Lane, Trouble
from core_tables.consumer.timer import Clock
from core_tables.consumer.worker import Worker
from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.schemas.reasons import StopCause, stop_cause

LaneState = Literal["folding", "waiting", "stopped"]
LANE_STATES: Final[tuple[LaneState, ...]] = ("folding", "waiting", "stopped")
# The others are about the log: no release changes them, so none should be held up by them.
HALTING: Final[frozenset[StopCause]] = frozenset({"schema", "defect", "database", "permission", "machine"})


class Problem(NamedTuple):
    """Why a worker is not alive or not ready; `lane` is None if it is not about one."""

    state: str
    lane: int | None
    trouble: Trouble


class ProbeAnswer(NamedTuple):
    """The answer to a probe, and what it is based on."""

    ok: bool
    body: dict[str, Any]


class Thread(Protocol):
    """The audit thread, as far as probes ask for it."""

    def alive(self) -> bool:
        """Whether it runs."""


def probe_pages(probes: "WorkerProbes") -> HttpPages:
    """The pages that a worker serves for probes."""
    return {"/healthz": lambda: json_page(*probes.alive()), "/readyz": lambda: json_page(*probes.ready())}


def lane_state(lane: Lane) -> LaneState:
    """What a lane does now."""
    if lane.opened:
        return "folding"
    return "waiting" if lane.stopped is None else "stopped"


class WorkerProbes:
    """Answers the probes of one worker, from before it is built until it ends."""

    def __init__(self, settings: WorkerSettings, clock: Clock = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._starting = Trouble("it has not been built yet", clock())
        self._followed: tuple[Worker, Thread | None] | None = None

    def waits_to_start(self, cause: str) -> None:
        """Note why the worker cannot start yet, at first or in place of one that has ended."""
        since = self._starting.since if self._followed is None else self._clock()
        self._starting, self._followed = Trouble(cause, since), None

    def follow(self, worker: Worker, audit_thread: Thread | None) -> None:
        """ProbeAnswer for this worker from now on."""
        self._followed = worker, audit_thread

    def alive(self) -> ProbeAnswer:
        """Whether the worker makes turns. If not, a restart is what helps."""
        followed = self._followed
        problems = [] if followed is None else list(self._standstills(*followed))
        return self._answer("alive", problems, [])

    def ready(self) -> ProbeAnswer:
        """Whether a rollout may continue with the next worker."""
        followed = self._followed
        if followed is None:
            return self._answer("ready", [Problem("starting", None, self._starting)], [])
        worker, _ = followed
        lanes = sorted(worker.lanes.values(), key=lambda lane: lane.lane)
        return self._answer("ready", [*self._standstills(*followed), *self._problems(worker, lanes)], lanes)

    def _standstills(self, worker: Worker, audit_thread: Thread | None) -> Iterator[Problem]:
        now, limit = self._clock(), self._settings.stands_after_s
        if now - worker.turned_at > limit:
            yield Problem("standstill", None, Trouble("the fold makes no turns", worker.turned_at))
        if audit_thread is None or worker.audit is None:
            return
        turned_at = now - worker.audit.silent_s()
        if not audit_thread.alive():
            yield Problem("standstill", None, Trouble("the audit thread has ended", turned_at))
        elif now - turned_at > limit:
            yield Problem("standstill", None, Trouble("the audit thread makes no turns", turned_at))

    def _problems(self, worker: Worker, lanes: Sequence[Lane]) -> Iterator[Problem]:
        lifecycle, audit = worker.lifecycle, worker.audit
        if lifecycle.outside is not None and not lifecycle.joined:
            yield Problem("joining", None, lifecycle.outside)
        for state, trouble in (
            ("lost", lifecycle.outside),
            ("topics_unknown", lifecycle.topics_unknown),
            ("paused", worker.pause),
        ):
            if trouble is not None and self._lasts(trouble):
                yield Problem(state, None, trouble)
        for lane in lanes:
            waiting = lane.doubt or (None if lane.opened else Trouble("it was assigned", lane.since))
            if lane.stopped is not None:
                if stop_cause(lane.stopped) in HALTING:
                    yield Problem("stopped", lane.lane, Trouble(lane.stopped.message, lane.since))
            elif waiting is not None and self._lasts(waiting):
                yield Problem("waiting", lane.lane, waiting)
        for number, trouble in () if audit is None else audit.failing():
            if self._lasts(trouble):
                yield Problem("audit_waiting", number, trouble)

    def _lasts(self, trouble: Trouble) -> bool:
        return self._clock() - trouble.since > self._settings.waits_after_s

    def _answer(self, question: str, problems: Sequence[Problem], lanes: Sequence[Lane]) -> ProbeAnswer:
        body: dict[str, Any] = {
            question: not problems,
            "problems": [
                {"state": state, "lane": lane, "cause": trouble.cause, "since": self._moment(trouble.since)}
                for state, lane, trouble in problems
            ],
        }
        if question == "ready":
            body["lanes"] = [self._shown(lane) for lane in lanes]
        return ProbeAnswer(not problems, body)

    def _shown(self, lane: Lane) -> dict[str, Any]:
        state, cause, since = lane_state(lane), None, lane.since
        if lane.stopped is not None:
            cause = lane.stopped.message
        elif lane.doubt is not None:
            cause, since = lane.doubt
        return {"lane": lane.lane, "state": state, "cause": cause, "since": self._moment(since)}

    def _moment(self, at: float) -> str:
        """A moment of the worker's clock as a person reads it."""
        moment = datetime.fromtimestamp(time.time() - (self._clock() - at), UTC)
        return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
