"""What the cache rule acts on: how far Postgres is, Redis and its replica, two workers, a reader; and the faults.

One lane, one list, a few records. The list has its newest entries and a marker: down to there nothing is missing. A repair raises
the epoch, and what was listed before it is not what Postgres holds any more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Final, NamedTuple


class Mutation(Enum):
    """A way to get the cache wrong."""

    NONE = "the cache as it is"
    FILL_WITHOUT_FENCE = "fill: whatever the label is by now"
    FILL_FENCED_BY_NONCE_ONLY = "fill: compare the nonce, not the position"
    SNAPSHOT_NOT_AT_THE_LABEL = "fill: though Postgres answered for another position than the label's"
    CHANGES_APPLIED_AT_ANY_POSITION = "advance: apply changes wherever the label is"
    APPLIED_WHEN_THE_LABEL_IS_AHEAD = "advance: apply changes that the label has passed, and set it back"
    MISSING_LABEL_ADOPTED = "advance: continue under the old nonce when the label is missing"
    LABEL_BEHIND_ADOPTED = "advance: continue under the same nonce when the label is behind"
    ABSENT_LIST_MEANS_EMPTY = "read: a list that is not there is an empty one"
    LABEL_WITHOUT_EPOCH = "advance: continue under the same nonce though a repair came between"
    FILL_ACROSS_A_REPAIR = "fill: though Postgres answered for another epoch than the label's"
    NO_LABEL_CHECK = "idle: do not check the label"
    NONCE_NOT_COMPARED = "read: take the list under the nonce that is remembered, whatever the label's is"
    LABEL_READ_BEFORE_THE_LIST = "read: ask for the label and for the list, not for both at once"
    MARKER_IGNORED = "read: what is in the list is all there is"
    WINDOW_REACHES_THE_MARKER = "read: a window that ends at the time of the marker is complete"
    FILLED_WITHOUT_MARKER = "fill: the newest entries, as if they were all"
    ADDED_BELOW_THE_MARKER = "advance: add an entry where others are missing"
    CUT_WITHOUT_MARKER = "advance: cut a list that is too long, and leave the marker"
    OLD_ENTRY_LEFT = "advance: add a work order's new entry and leave the old one"


class Budget(NamedTuple):
    """How many faults of each kind may still happen."""

    flushes: int = 0
    failovers: int = 0  # of Redis, to a replica that fell behind
    evictions: int = 0
    lost_commits: int = 0  # of Postgres
    repairs: int = 0  # `rebuild`, which may die before it tells Redis


NO_FAULTS: Final = Budget()


@dataclass(frozen=True)
class Scenario:
    """What is searched: how many records, which faults, which mutation."""

    budget: Budget = NO_FAULTS
    mutation: Mutation = Mutation.NONE
    records: int = 3


FIRST_NONCE: Final = 0
KEPT: Final = 2  # how many entries are filled in, and left when a list is cut: the newest
LONGEST: Final = 2


class Entry(NamedTuple):
    """A record of the list, which is in this order: the youngest first."""

    age: int
    name: str


class Query(NamedTuple):
    """What a reader asks for: the first `most` entries of at most an age."""

    most: int
    oldest: int = 9


QUERIES: Final = (Query(1), Query(2), Query(3), Query(3, 3), Query(3, 4))
# What each record of the log makes of a work order: its age, or None if it leaves the list. Two are there from the start.
AT_THE_START: Final = {"z": 2, "b": 4}
RECORDS: Final[Sequence[tuple[str, int | None]]] = (("c", 3), ("z", 4), ("c", None))


@cache
def fold(position: int, epoch: int) -> tuple[Entry, ...]:
    """The list as Postgres has it at a position: a repair finds that b is the youngest, and the next one that it is not."""
    ages: dict[str, int | None] = {**AT_THE_START, "b": 4 if epoch % 2 == 0 else 1}
    ages.update(RECORDS[:position])
    return tuple(sorted(Entry(age, name) for name, age in ages.items() if age is not None))


class Label(NamedTuple):
    """`nonce:position`; the nonce begins with the epoch."""

    nonce: int
    position: int
    epoch: int = 0


class Cached(NamedTuple):
    """The list under a nonce; without a marker it is the whole list, else nothing is missing from the start to the marker."""

    nonce: int
    entries: tuple[Entry, ...]
    marker: Entry | None = None


class Redis(NamedTuple):
    """The lane's label, and a requester's list."""

    label: Label | None = Label(FIRST_NONCE, 0)
    cached: Cached | None = None


class Call(NamedTuple):
    """`advance`, on its way: the changes of [start, end), made at an epoch."""

    start: int
    end: int
    epoch: int = 0


class Worker(NamedTuple):
    """What a worker believes to be applied at which epoch, and its call, if one is under way."""

    applied: int = 0
    epoch: int = 0
    call: Call | None = None


class Miss(NamedTuple):
    """A reader between its miss and its fill: the label it saw, the position and epoch Postgres answered for."""

    label: Label | None
    position: int
    epoch: int = 0


class World(NamedTuple):
    """Everything."""

    applied: int = 0
    epoch: int = 0
    redis: Redis = Redis()
    replica: Redis | None = None
    workers: tuple[Worker, Worker] = (Worker(), Worker())
    reader: Miss | None = None
    budget: Budget = Budget()
    seen: Label | None = None  # by a reader that has yet to ask for the list


Steps = Iterator[tuple[str, World]]


def put(world: World, index: int, worker: Worker) -> World:
    """The world with one worker changed."""
    first, second = world.workers
    return world._replace(workers=(worker, second) if index == 0 else (first, worker))


def exchanged(world: World) -> World:
    """The same world, with the workers called the other way round."""
    first, second = world.workers
    return world._replace(workers=(second, first))


def visible(redis: Redis) -> Cached | None:
    """The list that a reader sees: the one under the label's nonce."""
    label, cached = redis
    return cached if label is not None and cached is not None and cached.nonce == label.nonce else None


def fresh_nonce(world: World) -> int:
    """A nonce that nothing holds: random in the real thing, here the smallest, so that there are finitely many states."""
    held = {world.redis.label, world.redis.cached, world.reader and world.reader.label}
    if world.replica is not None:
        held |= {world.replica.label, world.replica.cached}
    nonces = {holder.nonce for holder in held if holder is not None}
    return next(nonce for nonce in range(FIRST_NONCE + 1, len(nonces) + 2) if nonce not in nonces)


def faults(world: World) -> Steps:
    """What the outside does; a lost, late or repeated call is the worker's own step."""
    budget, redis = world.budget, world.redis
    if budget.flushes:
        left = budget._replace(flushes=budget.flushes - 1)
        yield "FLUSHALL", world._replace(redis=Redis(None, None), budget=left)
    if budget.failovers and world.replica is None:
        yield "the replica falls behind here", world._replace(replica=redis)
    elif budget.failovers and world.replica is not None:
        left = budget._replace(failovers=budget.failovers - 1)
        yield "Redis fails over to its replica", world._replace(redis=world.replica, replica=None, budget=left)
    if budget.evictions:
        left = budget._replace(evictions=budget.evictions - 1)
        yield "the list is evicted", world._replace(redis=Redis(redis.label, None), budget=left)
        yield "the label is evicted", world._replace(redis=Redis(None, redis.cached), budget=left)
    if budget.lost_commits and world.applied:
        left = budget._replace(lost_commits=budget.lost_commits - 1)
        yield "Postgres loses its last commit", world._replace(applied=world.applied - 1, budget=left)
    if budget.repairs:
        left = budget._replace(repairs=budget.repairs - 1)
        repaired = world._replace(epoch=world.epoch + 1, budget=left)
        yield "a repair, which dies before it tells Redis", repaired
        yield "a repair", repaired._replace(redis=Redis(None, redis.cached))
