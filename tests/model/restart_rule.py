"""The worker's numbered rule (consumer/worker.py) as a model: two workers, one lane, a few records, a few faults.

Both workers always believe that they own the lane: the group is not trusted. Outcomes are what the log says, so an audit
entry is an offset and whether its outcome could be recalled rightly. Step numbers are those of the rule.
"""

from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

RECORDS = 3


class Mutation(Enum):
    """A way to get the rule wrong; the search must find what breaks."""

    NONE = auto()
    NO_COMPARE_AND_SET = auto()
    RECALL_OUTSIDE_THE_GUARD = auto()
    TAIL_BEFORE_INIT = auto()
    START_AT_APPLIED_ONLY = auto()
    FLOOR_FALLS = auto()
    NO_IDLE_CHECK = auto()
    REPAIR_WITHOUT_REVISION = auto()
    STALE_TAIL_WAITS = auto()
    QUEUE_ENTRY_DROPPED_BEFORE_CONFIRMED = auto()
    FLOOR_NOT_WRITTEN_WHEN_IDLE = auto()


class Budget(NamedTuple):
    """How many faults of each kind may still happen."""

    crashes: int = 0
    lost_replies: int = 0
    failovers: int = 0  # Postgres loses its last commit
    repairs: int = 0  # a rebuild rewrites rows
    wipes: int = 0  # retention empties the audit partition


class Fold(NamedTuple):
    """The fold of one worker: what it believes, and the queue of outcomes [queue_from, position) it has handed over."""

    opened: bool = False
    applied: int = 0
    recall_below: int = 0
    revision: int = 0
    position: int = 0
    queue_from: int = 0
    recalled_missing: int = 0  # bit set of offsets whose row was not there when it was recalled


class Audit(NamedTuple):
    """The audit of one worker: closed, its producer open, or ready at a position; `sending` is the end of an open transaction."""

    phase: str = "closed"
    position: int = 0
    sending: int = 0


class Worker(NamedTuple):
    """A process, alive or dead, and dead for good if it may not restart."""

    alive: bool = True
    fold: Fold = Fold()
    audit: Audit = Audit()


class Transaction(NamedTuple):
    """What the holder of the transactional.id has open."""

    entries: tuple[tuple[int, bool], ...]


class World(NamedTuple):
    """Postgres, the audit partition, both workers, and the faults left."""

    applied: int = 0
    floor: int = 0
    revision: int = 0
    rows_right: bool = True
    holder: int | None = None
    transaction: Transaction | None = None
    audited: tuple[tuple[int, bool], ...] = ()
    wiped: int = 0
    workers: tuple[Worker, Worker] = (Worker(), Worker())
    budget: Budget = Budget()


Steps = Iterator[tuple[str, World]]


def violation(world: World) -> str | None:
    """Audit entries are the records' outcomes, in order, each once; rows are those of the fold."""
    if not world.rows_right:
        return "rows were written from a state that was not the lane's"
    if [offset for offset, _ in world.audited] != list(range(len(world.audited))):
        return f"audit out of order, doubled or with a gap: {[offset for offset, _ in world.audited]}"
    if not all(right for _, right in world.audited):
        return "an audit event was made from an outcome that was not there"
    return None


def complete(world: World) -> bool:
    """Everything is folded and audited."""
    return world.applied == RECORDS and len(world.audited) == RECORDS


class Rule:
    """The steps of the rule, with one of them got wrong."""

    def __init__(self, mutation: Mutation = Mutation.NONE, *, second_may_restart: bool = True) -> None:
        self.mutation = mutation
        self.second_may_restart = second_may_restart

    def successors(self, world: World) -> Steps:
        """Every step that can happen next."""
        yield from self.faults(world)
        for index in (0, 1):
            worker = world.workers[index]
            if not worker.alive:
                if index == 0 or self.second_may_restart:
                    yield f"{index} restarts", _with(world, index, Worker())
                continue
            if world.budget.crashes:
                budget = world.budget._replace(crashes=world.budget.crashes - 1)
                yield f"{index} crashes", _with(world, index, Worker(alive=False))._replace(budget=budget)
            if worker.fold.opened:
                yield from self.fold_a_batch(world, index, worker)
                yield from self.idle(world, index, worker)
            else:
                yield self.open_lane(world, index, worker)
            yield from self.audit(world, index, worker)

    def faults(self, world: World) -> Steps:
        """What the outside does."""
        budget = world.budget
        if budget.failovers and world.applied:
            applied = world.applied - 1
            left = budget._replace(failovers=budget.failovers - 1)
            yield (
                "Postgres loses its last commit",
                world._replace(applied=applied, floor=min(world.floor, applied), budget=left),
            )
        if budget.repairs and world.applied:
            left = budget._replace(repairs=budget.repairs - 1)
            yield "a repair rewrites rows", world._replace(revision=world.revision + 1, budget=left)
        # Retention is days, an idle worker writes the floor within a second.
        written = world.floor == len(world.audited) or self.mutation is Mutation.FLOOR_NOT_WRITTEN_WHEN_IDLE
        if budget.wipes and len(world.audited) > world.wiped and written:
            left = budget._replace(wipes=budget.wipes - 1)
            yield "retention empties the audit partition", world._replace(wiped=len(world.audited), budget=left)

    def open_lane(self, world: World, index: int, worker: Worker) -> tuple[str, World]:
        """Step 1: start at min(applied, audited)."""
        start = world.applied if self.mutation is Mutation.START_AT_APPLIED_ONLY else min(world.applied, world.floor)
        fold = Fold(True, world.applied, world.applied, world.revision, start, start)
        return f"{index} opens at {start}", _with(world, index, worker._replace(fold=fold))

    def fold_a_batch(self, world: World, index: int, worker: Worker) -> Steps:
        """Steps 2 to 4: guard, recall, write, commit; then queue. A failed guard or an unknown result reopens (3)."""
        fold = worker.fold
        for end in sorted({fold.position + 1, min(RECORDS, fold.position + 2)}):
            if not fold.position < end <= RECORDS:
                continue
            writes = end > fold.applied
            if not self.guard_holds(world, fold, writes=writes):
                yield f"{index} guard fails", _reopen(world, index, worker)
                return
            committed = self.commit(world, worker, end, writes=writes)
            missing = fold.recalled_missing
            for offset in range(fold.position, min(end, fold.recall_below)):
                missing |= (offset >= world.applied) << offset
            after = fold._replace(applied=max(fold.applied, end), position=end, recalled_missing=missing)
            yield f"{index} folds to {end}", _with(committed, index, worker._replace(fold=after))
            if world.budget.lost_replies and writes:
                budget = world.budget._replace(lost_replies=world.budget.lost_replies - 1)
                yield f"{index} folds to {end}, reply lost", _reopen(committed, index, worker)._replace(budget=budget)

    def guard_holds(self, world: World, fold: Fold, *, writes: bool) -> bool:
        """The compare-and-set of applied and revision."""
        if self.mutation is Mutation.NO_COMPARE_AND_SET:
            return True
        if self.mutation is Mutation.RECALL_OUTSIDE_THE_GUARD and not writes:
            return True
        if self.mutation is Mutation.REPAIR_WITHOUT_REVISION:
            return world.applied == fold.applied
        return (world.applied, world.revision) == (fold.applied, fold.revision)

    def commit(self, world: World, worker: Worker, end: int, *, writes: bool) -> World:
        """What the transaction leaves: positions, and rows that are right only if its state was the lane's."""
        fold = worker.fold
        if not writes:
            return world
        floor = world.floor
        if worker.audit.phase == "ready":
            known = worker.audit.position
            floor = known if self.mutation is Mutation.FLOOR_FALLS else max(floor, known)
        right = world.rows_right and (world.applied, world.revision) == (fold.applied, fold.revision)
        return world._replace(applied=max(fold.applied, end), floor=min(floor, end), rows_right=right)

    def idle(self, world: World, index: int, worker: Worker) -> Steps:
        """Step 6: compare with memory, write the floor."""
        fold, audit = worker.fold, worker.audit
        if (world.applied, world.revision) != (fold.applied, fold.revision):
            if self.mutation is not Mutation.NO_IDLE_CHECK:
                yield f"{index} sees that its lane moved", _reopen(world, index, worker)
        elif audit.phase == "ready" and world.floor < min(audit.position, world.applied):
            yield f"{index} writes the floor", world._replace(floor=min(audit.position, world.applied))

    def audit(self, world: World, index: int, worker: Worker) -> Steps:
        """Step 5: open (init, then tail), emit what lies at or above the position, confirm."""
        first, second = ("tail", "init") if self.mutation is Mutation.TAIL_BEFORE_INIT else ("init", "tail")
        audit = worker.audit
        if audit.phase in ("closed", "opened"):
            following = "opened" if audit.phase == "closed" else "ready"
            if (first if audit.phase == "closed" else second) == "init":
                opened = worker._replace(audit=audit._replace(phase=following, sending=0))
                yield f"{index} init_transactions", _with(world, index, opened)._replace(holder=index, transaction=None)
            else:
                tail = world.audited[-1][0] + 1 if len(world.audited) > world.wiped else world.floor
                yield (
                    f"{index} reads the tail {tail}",
                    _with(world, index, worker._replace(audit=Audit(following, tail))),
                )
        elif worker.fold.opened:
            yield from self.send(world, index, worker) if not audit.sending else self.confirm(world, index, worker)

    def send(self, world: World, index: int, worker: Worker) -> Steps:
        """Begin a transaction with the queue's outcomes from the position on."""
        fold, audit = worker.fold, worker.audit
        start = max(audit.position, fold.queue_from)
        if start >= fold.position:
            return
        if start > audit.position:
            if self.mutation is not Mutation.STALE_TAIL_WAITS:
                yield f"{index} finds its tail stale", _with(world, index, worker._replace(audit=Audit()))
        elif world.holder != index:
            yield f"{index} is fenced", _with(world, index, worker._replace(audit=Audit()))
        else:
            entries = tuple((offset, not fold.recalled_missing >> offset & 1) for offset in range(start, fold.position))
            if self.mutation is Mutation.QUEUE_ENTRY_DROPPED_BEFORE_CONFIRMED:
                fold = fold._replace(queue_from=fold.position)
            sending = worker._replace(fold=fold, audit=audit._replace(sending=fold.position))
            yield (
                f"{index} sends {start}..{fold.position}",
                _with(world, index, sending)._replace(transaction=Transaction(entries)),
            )

    def confirm(self, world: World, index: int, worker: Worker) -> Steps:
        """Commit the transaction; fenced or unknown, close the producer and open it anew."""
        closed = _with(world, index, worker._replace(audit=Audit()))
        if world.holder != index or world.transaction is None:
            yield f"{index} is fenced at its commit", closed
            return
        audited = world.audited + world.transaction.entries
        ready = worker._replace(audit=Audit("ready", worker.audit.sending))
        yield f"{index} commits its audit", _with(world, index, ready)._replace(audited=audited, transaction=None)
        if world.budget.lost_replies:
            budget = world.budget._replace(lost_replies=world.budget.lost_replies - 1)
            yield (
                f"{index} commits its audit, reply lost",
                closed._replace(audited=audited, transaction=None, budget=budget),
            )


def _with(world: World, index: int, worker: Worker) -> World:
    workers = (worker, world.workers[1]) if index == 0 else (world.workers[0], worker)
    return world._replace(workers=workers)


def _reopen(world: World, index: int, worker: Worker) -> World:
    """Step 3: drop what is in memory; the audit's producer goes with its queue."""
    return _with(world, index, worker._replace(fold=Fold(), audit=Audit()))
