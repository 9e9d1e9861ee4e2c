"""What the restart rule acts on: the lane's row, its audit partition, two workers; and the faults that befall them.

One lane, a few records. The log and its outcomes are fixed, so an audit event is its offset, and whether the outcome it was
made from was there. Offsets are "next to do". A revocation needs no fault of its own: to the lane it is a crash.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, NamedTuple


class Mutation(Enum):
    """A way to get the rule wrong, with the number of its step."""

    NONE = "the rule as it is"
    START_AT_APPLIED_ONLY = "1: start at applied, whatever the audit lacks"
    NO_COMPARE_AND_SET = "2: write whatever the lane row says"
    RECALL_OUTSIDE_THE_GUARD = "2: a batch that only recalls does without the guard"
    REPAIR_WITHOUT_EPOCH = "2: a repair leaves the epoch as it was"
    COMMIT_RETRIED = "3: after an unknown result, commit the same rows over whatever the lane row says by now"
    COMMIT_RETRIED_UNDER_ITS_GUARD = "3: after an unknown result, begin the same transaction again, guard first"
    QUEUE_KEPT_OVER_A_REOPEN = "3: a reopened lane keeps its queue"
    MEMORY_KEPT_OVER_A_REOPEN = "3: a reopened lane keeps the states in memory"
    TAIL_BEFORE_INIT = "5: read the tail, then init_transactions"
    STALE_TAIL_WAITS = "5: when the queue starts above the next offset, wait"
    PRODUCER_KEPT_AFTER_AN_ERROR = "5: after an unknown result, continue with the same producer and offset"
    ENTRY_DROPPED_BEFORE_CONFIRMED = "5: an entry leaves the queue when it is sent"
    AUDITED_ENTRY_KEPT = "5: an entry below the next offset, audited by another, stays in the queue"
    WATERMARK_OF_THE_OPENING = (
        "5: for an empty audit partition take the audited watermark as it was when the lane was opened"
    )
    STOP_DROPS_ITS_QUEUE = "8: a lane that stops drops its queue too"
    WATERMARK_FALLS = "6: write the audited watermark even if it is lower"
    WATERMARK_OUTRUNS_THE_AUDIT = "6: write applied as the audited watermark"
    WATERMARK_NOT_WRITTEN_WHEN_IDLE = "6: write the audited watermark with commits only"
    NO_IDLE_CHECK = "6: do not compare the lane row with memory"


class Budget(NamedTuple):
    """How many faults of each kind may still happen."""

    crashes: int = 0
    lost_replies: int = 0  # of a commit, Postgres's or Kafka's
    failovers: int = 0  # Postgres falls back to an earlier commit
    repairs: int = 0  # a rebuild rewrites rows
    wipes: int = 0  # retention empties the audit partition


NO_FAULTS: Final = Budget()


@dataclass(frozen=True)
class Scenario:
    """What is searched: how many records, which faults, which mutation."""

    budget: Budget = NO_FAULTS
    mutation: Mutation = Mutation.NONE
    records: int = 3
    second_dies_for_good: bool = False
    queue_bound: int | None = None  # step 4: as many entries pause the fold


class Seen(NamedTuple):
    """The lane row as a worker read it, which its guard expects to find again."""

    applied: int = 0
    epoch: int = 0


class LaneRow(NamedTuple):
    """The lane row in Postgres; `audited` is the audited watermark."""

    applied: int = 0
    audited: int = 0
    epoch: int = 0


class Entry(NamedTuple):
    """An outcome on its way to the audit topic; not right if it was recalled from a row that was not there."""

    offset: int
    right: bool = True


NOBODY: Final = -1


class AuditPartition(NamedTuple):
    """The audit partition and its transactional.id: who holds it, what that one has open, and what is committed."""

    holder: int = NOBODY
    transaction: tuple[Entry, ...] = ()
    ending: bool = False  # a commit is under way whose reply nobody waits for any more
    records: tuple[Entry, ...] = ()
    wiped: int = 0


class Fold(NamedTuple):
    """The fold of a worker: `memory` is what its states are the fold of; the queue is what the audit has yet to confirm."""

    opened: bool = False
    seen: Seen = Seen()
    memory: Seen = Seen()
    next_offset: int = 0
    queue: tuple[Entry, ...] = ()
    unknown: int = 0  # end of the batch whose commit is tried again (mutations only)
    audited: int = 0  # as it was at the opening (a mutation only)
    stopped: bool = False  # behind the last record (a mutation only: by the rule, a stop changes nothing but that)


class Audit(NamedTuple):
    """The audit of a worker. `fresh`: the tail was read since the lane was opened. `sending`: end of what is sent, or 0."""

    phase: Literal["closed", "begun", "ready"] = "closed"
    next_offset: int = 0
    fresh: bool = False
    sending: int = 0


class Worker(NamedTuple):
    """A process that always believes it owns the lane: the group is not trusted."""

    alive: bool = True
    fold: Fold = Fold()
    audit: Audit = Audit()


class World(NamedTuple):
    """Everything; `broken` says what a step did that must never be done."""

    lane: LaneRow = LaneRow()
    topic: AuditPartition = AuditPartition()
    workers: tuple[Worker, Worker] = (Worker(), Worker())
    budget: Budget = Budget()
    broken: str = ""


Steps = Iterator[tuple[str, World]]


def put(world: World, index: int, worker: Worker) -> World:
    """The world with one worker changed."""
    first, second = world.workers
    workers = (worker, second) if index == 0 else (first, worker)
    return World(world.lane, world.topic, workers, world.budget, world.broken)


def exchanged(world: World) -> World:
    """The same world, with the workers called the other way round."""
    first, second = world.workers
    topic = world.topic
    if topic.holder != NOBODY:
        topic = AuditPartition(1 - topic.holder, topic.transaction, topic.ending, topic.records, topic.wiped)
    return World(world.lane, topic, (second, first), world.budget, world.broken)


def violation(world: World) -> str | None:
    """Audit events are the records' outcomes, in order, each once; offsets never claim what is not there."""
    if world.broken:
        return world.broken
    for offset, entry in enumerate(world.topic.records):
        if entry.offset != offset:
            return f"audit doubled, out of order or with a gap: {[entry.offset for entry in world.topic.records]}"
        if not entry.right:
            return f"the audit event of {offset} was made from an outcome that was not there"
    if world.lane.audited > min(world.lane.applied, len(world.topic.records)):
        return f"the audited watermark {world.lane.audited} is above what is folded or audited"
    return None


def faults(world: World, mutation: Mutation) -> Steps:
    """What the outside does, except for the workers' own deaths."""
    yield from _faults_of_postgres(world)
    yield from _faults_of_kafka(world, mutation)


def _faults_of_postgres(world: World) -> Steps:
    budget, row = world.budget, world.lane
    if budget.failovers:
        left = budget._replace(failovers=budget.failovers - 1)
        for earlier in _earlier(row):
            yield f"Postgres falls back to {earlier}", world._replace(lane=earlier, budget=left)
    if budget.repairs and row.applied:
        left = budget._replace(repairs=budget.repairs - 1)
        yield "a repair rewrites rows", world._replace(lane=row._replace(epoch=row.epoch + 1), budget=left)


def _earlier(row: LaneRow) -> Iterator[LaneRow]:
    """Every row that the lane may have had before: more than it did have, so what holds here holds for any lag."""
    for applied in range(row.applied + 1):
        for audited in range(min(applied, row.audited) + 1):
            for epoch in range(row.epoch + 1):
                if (earlier := LaneRow(applied, audited, epoch)) != row:
                    yield earlier


def _faults_of_kafka(world: World, mutation: Mutation) -> Steps:
    budget, topic = world.budget, world.topic
    if topic.ending:
        landed = topic._replace(transaction=(), ending=False, records=topic.records + topic.transaction)
        yield "the broker carries out the commit whose reply was lost", world._replace(topic=landed)
    # Retention takes days, and an idle worker writes the audited watermark within a second.
    written = world.lane.audited == len(topic.records) or mutation is Mutation.WATERMARK_NOT_WRITTEN_WHEN_IDLE
    if budget.wipes and len(topic.records) > topic.wiped and written:
        left = budget._replace(wipes=budget.wipes - 1)
        emptied = topic._replace(wiped=len(topic.records))
        yield "retention empties the audit partition", world._replace(topic=emptied, budget=left)
