"""The pending lists in Redis as a model: does a list that a reader can see equal the fold at the position of its label?

A list's content is the position it equals the fold at, or None once it equals it nowhere. Worker calls may come late, be
lost, or arrive twice.
"""

from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

RECORDS = 3


class Mutation(Enum):
    """A way to get the cache wrong."""

    NONE = auto()
    FILL_WITHOUT_FENCE = auto()
    MISSING_LABEL_ADOPTED = auto()
    CHANGES_APPLIED_AT_ANY_POSITION = auto()
    ABSENT_LIST_MEANS_EMPTY = auto()


class Budget(NamedTuple):
    """How many faults of each kind may still happen."""

    flushes: int = 1
    failovers: int = 1  # of Redis, to an older replica
    evictions: int = 1
    lost_commits: int = 1  # of Postgres


class Label(NamedTuple):
    """`nonce:position`."""

    nonce: int
    position: int


class Cached(NamedTuple):
    """A requester's list under a nonce."""

    nonce: int
    equals_fold_at: int | None


class Worker(NamedTuple):
    """What a worker believes to be applied, and the call to Redis that is still on its way: (from, to)."""

    applied: int = 0
    call: tuple[int, int] | None = None


class World(NamedTuple):
    """Postgres, Redis, its replica, two workers and a reader between its miss and its fill: (label seen, applied read)."""

    applied: int = 0
    label: Label | None = Label(0, 0)
    cached: Cached | None = None
    workers: tuple[Worker, Worker] = (Worker(), Worker())
    reader: tuple[Label | None, int] | None = None
    replica: tuple[Label | None, Cached | None] | None = None
    next_nonce: int = 1
    budget: Budget = Budget()


Steps = Iterator[tuple[str, World]]


def complete(world: World) -> bool:
    """Any state is a good end: a cache has nothing to finish."""
    return world is not None


class Rule:
    """The steps of the cache, with one of them got wrong."""

    def __init__(self, mutation: Mutation = Mutation.NONE) -> None:
        self.mutation = mutation

    def violation(self, world: World) -> str | None:
        """What a reader sees is the fold at the label's position."""
        label, cached = world.label, world.cached
        if label is None:
            return None
        if cached is None or cached.nonce != label.nonce:
            if self.mutation is Mutation.ABSENT_LIST_MEANS_EMPTY and label.position > 0:
                return "a list that is not there was read as an empty one"
            return None
        if cached.equals_fold_at != label.position:
            return f"a list labelled {label.position} equals the fold at {cached.equals_fold_at}"
        return None

    def successors(self, world: World) -> Steps:
        """Every step that can happen next."""
        yield from self.faults(world)
        for index in (0, 1):
            yield from self.worker(world, index)
        yield from self.read(world)

    def faults(self, world: World) -> Steps:
        """What the outside does."""
        budget = world.budget
        if budget.flushes:
            left = budget._replace(flushes=budget.flushes - 1)
            yield "FLUSHALL", world._replace(label=None, cached=None, budget=left)
        if budget.failovers:
            if world.replica is None:
                yield "the replica falls behind here", world._replace(replica=(world.label, world.cached))
            else:
                left = budget._replace(failovers=budget.failovers - 1)
                label, cached = world.replica
                yield "failover to the replica", world._replace(label=label, cached=cached, replica=None, budget=left)
        if budget.evictions:
            left = budget._replace(evictions=budget.evictions - 1)
            yield "the list is evicted", world._replace(cached=None, budget=left)
            yield "the label is evicted", world._replace(label=None, budget=left)
        if budget.lost_commits and world.applied:
            left = budget._replace(lost_commits=budget.lost_commits - 1)
            yield "Postgres loses its last commit", world._replace(applied=world.applied - 1, budget=left)

    def worker(self, world: World, index: int) -> Steps:
        """Commit, then advance the label: once, late, twice or never."""
        worker = world.workers[index]
        if worker.applied != world.applied:
            yield f"{index} reopens", _with(world, index, Worker(world.applied))
        elif worker.call is None:
            for end in (worker.applied + 1, worker.applied + 2):
                if end <= RECORDS:
                    committed = _with(world, index, Worker(end, (worker.applied, end)))
                    yield f"{index} commits to {end}", committed._replace(applied=end)
        if worker.call is not None:
            done = worker._replace(call=None)
            yield f"{index} call lost", _with(world, index, done)
            moved = self.advance(world, *worker.call)
            yield f"{index} advances {worker.call}", _with(moved, index, done)
            yield f"{index} advances {worker.call}, reply lost", moved

    def advance(self, world: World, start: int, end: int) -> World:
        """The script: changes apply at their own position only; in doubt, a new nonce forgets every list."""
        label, cached = world.label, world.cached
        if label is not None and (label.position == start or self.mutation is Mutation.CHANGES_APPLIED_AT_ANY_POSITION):
            return world._replace(label=Label(label.nonce, end), cached=_changed(cached, label.nonce, start, end))
        if label is not None and label.position >= end:
            return world
        if self.mutation is Mutation.MISSING_LABEL_ADOPTED:
            nonce = label.nonce if label is not None else 0
            return world._replace(label=Label(nonce, end), cached=_changed(cached, nonce, start, end))
        return world._replace(label=Label(world.next_nonce, end), next_nonce=world.next_nonce + 1)

    def read(self, world: World) -> Steps:
        """A reader that misses asks Postgres, and stores what it got only while the label still is there."""
        label, cached = world.label, world.cached
        if world.reader is None:
            if label is None or cached is None or cached.nonce != label.nonce:
                yield "a reader misses", world._replace(reader=(label, world.applied))
            return
        seen, applied = world.reader
        fenced = label is not None and seen == label and label.position == applied
        if label is not None and (fenced or self.mutation is Mutation.FILL_WITHOUT_FENCE):
            yield "the reader fills", world._replace(cached=Cached(label.nonce, applied), reader=None)
        else:
            yield "the fill is refused", world._replace(reader=None)


def _changed(cached: Cached | None, nonce: int, start: int, end: int) -> Cached | None:
    """A list after the changes of [start, end): right if it was the fold at start."""
    if cached is None or cached.nonce != nonce:
        return cached
    return Cached(nonce, end if cached.equals_fold_at == start else None)


def _with(world: World, index: int, worker: Worker) -> World:
    workers = (worker, world.workers[1]) if index == 0 else (world.workers[0], worker)
    return world._replace(workers=workers)
