"""What a worker counts and measures: plain numbers, raised once a batch after its commit, and read by other threads.

Every label that there can be is there from the start, so that a rate has a beginning.
"""

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final, Literal, assert_never, get_args

from core_tables.projection.fold.values import Decided
from core_tables.schemas.outcomes import ACCEPTED, Accepted, Outcome, Refused, Replayed
from core_tables.schemas.reasons import APPEND_ONLY_VIOLATION, IDEMPOTENCY_REPLAY, ReasonCode

BatchResult = Literal["committed", "moved", "failed"]
BatchStep = Literal["load", "write", "commit"]
# moved: another worker or a repair moved the lane; position: its row in Postgres was not as in memory; log: its records were not
# where they should be.
ReopenCause = Literal["moved", "postgres", "kafka", "redis", "log", "position"]
AuditReopenCause = Literal["fenced", "kafka", "postgres", "machine"]
Rebalance = Literal["assigned", "revoked", "lost"]

NS_PER_S: Final = 1_000_000_000
_DURATIONS_S: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)
_AGES_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_ACCEPTED: Final = ("accepted", "")
_REPLAYED: Final = ("replayed", IDEMPOTENCY_REPLAY)


def with_others(parts: Iterable[list[Decided]], others: list[Outcome]) -> Iterator[list[Decided]]:
    """Pass outcomes on, and add those that are not of accepted records to `others`."""
    for decided in parts:
        others += [each.outcome for each in decided if each.outcome is not ACCEPTED]
        yield decided


class Durations:
    """A histogram of seconds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self._counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def cumulated(self) -> list[int]:
        """How many were at most as long as each bound, and how many there were."""
        return list(accumulate(list(self._counts)))


class WorkerCounts:
    """The counts of one worker. The fold's thread changes all of them but `audit_reopens`, which is the audit's."""

    def __init__(self) -> None:
        refusals = [code for code in get_args(ReasonCode) if code not in (APPEND_ONLY_VIOLATION, IDEMPOTENCY_REPLAY)]
        self.records = dict.fromkeys([_ACCEPTED, _REPLAYED, *(("refused", code) for code in refusals)], 0)
        self.batches: dict[BatchResult, int] = dict.fromkeys(get_args(BatchResult), 0)
        self.lookups = {"true": 0, "false": 0}  # whether the state of a work order was in memory
        self.reopens: dict[ReopenCause, int] = dict.fromkeys(get_args(ReopenCause), 0)
        self.rebalances: dict[Rebalance, int] = dict.fromkeys(get_args(Rebalance), 0)
        self.pauses = 0
        self.audit_reopens: dict[AuditReopenCause, int] = dict.fromkeys(get_args(AuditReopenCause), 0)
        self.commit_ages = Durations(_AGES_S)
        self.batch_durations = Durations(_DURATIONS_S)
        self.step_durations: dict[BatchStep, Durations] = {
            step: Durations(_DURATIONS_S) for step in get_args(BatchStep)
        }

    def looked_up(self, work_orders: int, in_memory: int) -> None:
        """Count the work orders of a batch, and those of them whose state was in memory."""
        self.lookups["true"] += in_memory
        self.lookups["false"] += work_orders - in_memory

    def decided(self, records: int, others: Iterable[Outcome], newest: Iterable[int]) -> None:
        """Count the records of a batch that was committed now.

        `others` are the outcomes of those that were not accepted, `newest` the broker times (ns) of the last record of each lane.
        """
        self.batches["committed"] += 1
        now = time.time()
        for broker_time in newest:
            self.commit_ages.observe(max(0.0, now - broker_time / NS_PER_S))
        accepted = records
        for outcome in others:
            match outcome:
                case Accepted():
                    continue
                case Replayed():
                    self.records[_REPLAYED] += 1
                case Refused(reason_code=code):
                    self.records["refused", code] += 1
                case _:
                    assert_never(outcome)
            accepted -= 1
        self.records[_ACCEPTED] += accepted

    def took(self, marks: Sequence[float]) -> None:
        """Count how long a batch took, and its steps: `marks` are the moments before, between and after them."""
        for step, (begun, ended) in zip(self.step_durations.values(), pairwise(marks), strict=True):
            step.observe(ended - begun)
        self.batch_durations.observe(marks[-1] - marks[0])
