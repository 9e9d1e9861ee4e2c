"""The worker's restart rule as a model: its steps by their numbers (docs/ARCHITECTURE.md, "Positions and fences").

Step 7 is `dropped`. Step 8 is what a lane does behind its last record: it emits, and looks around. Notifying, Redis
(cache.py) and back-off are left out: they change nothing that this rule rests on.
"""

from .restart_world import (
    NOBODY,
    Audit,
    AuditPartition,
    Entry,
    Fold,
    LaneRow,
    Mutation,
    Scenario,
    Seen,
    Steps,
    Worker,
    World,
    exchanged,
    faults,
    put,
    violation,
)

BATCH = 2  # records in the largest batch


class RestartRule:
    """The steps of the rule, one of them got wrong if the scenario says so."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.mutation = scenario.mutation

    def initial(self) -> World:
        """Nothing is folded, both workers have just been assigned the lane."""
        return World(budget=self.scenario.budget)

    def violation(self, world: World) -> str | None:
        """What is wrong with a state."""
        return violation(world)

    def canonical(self, world: World) -> World:
        """The workers follow one rule, so which is called 0 makes no difference, unless one of them dies for good."""
        if self.scenario.second_dies_for_good:
            return world
        first, second = world.workers
        holder = world.topic.holder
        in_order = (first, holder) <= (second, holder if holder == NOBODY else 1 - holder)
        return world if in_order else exchanged(world)

    def complete(self, world: World) -> bool:
        """Everything is folded and audited."""
        return world.lane.applied == len(world.topic.records) == self.scenario.records

    def steps(self, world: World) -> Steps:
        """Everything that can happen next."""
        yield from faults(world, self.mutation)
        for index, worker in enumerate(world.workers):
            if not worker.alive:
                if index == 0 or not self.scenario.second_dies_for_good:
                    yield f"{index} restarts", put(world, index, Worker())
                continue
            if world.budget.crashes:
                left = world.budget._replace(crashes=world.budget.crashes - 1)
                yield f"{index} crashes", put(world, index, Worker(alive=False))._replace(budget=left)
            if worker.fold.stopped:
                continue
            if self.mutation is Mutation.STOP_DROPS_ITS_QUEUE and worker.fold.next_offset == self.scenario.records:
                yield f"{index} stops", put(world, index, Worker(fold=Fold(stopped=True)))
                continue
            if not worker.fold.opened:
                yield self.open_lane(world, index, worker)
            elif worker.fold.unknown:
                yield self.retry_commit(world, index, worker)
            else:
                yield from self.fold_batch(world, index, worker)
                yield from self.look_around(world, index, worker)
            yield from self.emit(world, index, worker)

    def open_lane(self, world: World, index: int, worker: Worker) -> tuple[str, World]:
        """Step 1: read the lane row, start at min(applied, audited)."""
        row, kept = world.lane, worker.fold
        start = row.applied if self.mutation is Mutation.START_AT_APPLIED_ONLY else min(row.applied, row.audited)
        seen = Seen(row.applied, row.epoch)
        memory = kept.memory if self.mutation is Mutation.MEMORY_KEPT_OVER_A_REOPEN else seen
        audited = row.audited if self.mutation is Mutation.WATERMARK_OF_THE_OPENING else 0
        fold = Fold(True, seen, memory, start, kept.queue, audited=audited)
        return f"{index} opens at {start}", put(world, index, Worker(True, fold, worker.audit._replace(fresh=False)))

    def fold_batch(self, world: World, index: int, worker: Worker) -> Steps:
        """Steps 2 and 3: guard, recall or decide, commit; a failed guard or an unknown result reopens the lane."""
        fold = worker.fold
        if self.scenario.queue_bound is not None and len(fold.queue) >= self.scenario.queue_bound:
            return
        for end in range(fold.next_offset + 1, min(self.scenario.records, fold.next_offset + BATCH) + 1):
            if not self.guard_holds(world, fold, end):
                yield f"{index} fails its guard", put(world, index, self.dropped(worker))
                return
            committed = self.commit(world, worker, end)
            yield f"{index} folds to {end}", put(committed, index, self.queued(world, worker, end))
            if world.budget.lost_replies and end > fold.seen.applied:
                left = world.budget._replace(lost_replies=world.budget.lost_replies - 1)
                uncertain = self.uncertain(worker, end)
                for what, after in (("committed", committed), ("not committed", world)):
                    label = f"{index} folds to {end}, reply lost, {what}"
                    yield label, put(after, index, uncertain)._replace(budget=left)

    def guard_holds(self, world: World, fold: Fold, end: int) -> bool:
        """Step 2: `update … where applied = expected and epoch = expected`."""
        if self.mutation is Mutation.NO_COMPARE_AND_SET:
            return True
        if self.mutation is Mutation.RECALL_OUTSIDE_THE_GUARD and end <= fold.seen.applied:
            return True
        return self.unmoved(world.lane, fold)

    def unmoved(self, row: LaneRow, fold: Fold) -> bool:
        """Whether the lane row is what the worker read."""
        if self.mutation is Mutation.REPAIR_WITHOUT_EPOCH:
            return row.applied == fold.seen.applied
        return row.applied == fold.seen.applied and row.epoch == fold.seen.epoch

    def commit(self, world: World, worker: Worker, end: int) -> World:
        """Step 2: what the transaction leaves. Rows are right only if memory was the fold of what they are added to."""
        row, fold, audit = world.lane, worker.fold, worker.audit
        reached = max(fold.seen.applied, end)
        audited = min(reached, audit.next_offset) if audit.phase == "ready" else 0
        if self.mutation is Mutation.WATERMARK_OUTRUNS_THE_AUDIT:
            audited = reached
        if self.mutation is not Mutation.WATERMARK_FALLS:
            audited = max(row.audited, audited)
        broken = world.broken
        if end > fold.seen.applied and fold.memory != (row.applied, row.epoch):
            broken = "rows were written from a memory that was not the lane's"
        return World(LaneRow(reached, audited, row.epoch), world.topic, world.workers, world.budget, broken)

    def queued(self, world: World, worker: Worker, end: int) -> Worker:
        """Step 4: committed; memory follows, and the outcomes are queued. A recalled one is right if its row was there."""
        fold = worker.fold
        entries = tuple(
            Entry(offset, offset >= fold.seen.applied or offset < world.lane.applied)
            for offset in range(fold.next_offset, end)
        )
        seen = Seen(max(fold.seen.applied, end), fold.seen.epoch)
        following = Fold(True, seen, seen, end, fold.queue + entries, audited=fold.audited)
        return Worker(True, following, worker.audit)

    def uncertain(self, worker: Worker, end: int) -> Worker:
        """Step 3: a commit's result is unknown. It is never retried: drop, and go to 1."""
        if self.mutation in (Mutation.COMMIT_RETRIED, Mutation.COMMIT_RETRIED_UNDER_ITS_GUARD):
            return worker._replace(fold=worker.fold._replace(unknown=end))
        return self.dropped(worker)

    def retry_commit(self, world: World, index: int, worker: Worker) -> tuple[str, World]:
        """Not in the rule (two mutations of step 3): commit the same batch again."""
        end, batch = worker.fold.unknown, worker._replace(fold=worker.fold._replace(unknown=0))
        if self.mutation is Mutation.COMMIT_RETRIED_UNDER_ITS_GUARD and not self.unmoved(world.lane, batch.fold):
            return f"{index} fails its guard when it retries", put(world, index, self.dropped(worker))
        committed = self.commit(world, batch, end)
        return f"{index} commits to {end} again", put(committed, index, self.queued(world, batch, end))

    def dropped(self, worker: Worker) -> Worker:
        """Steps 3 and 7: everything in memory of the lane is dropped, nothing is flushed or committed."""
        if self.mutation is Mutation.QUEUE_KEPT_OVER_A_REOPEN:
            return Worker(fold=Fold(queue=worker.fold.queue))
        if self.mutation is Mutation.MEMORY_KEPT_OVER_A_REOPEN:
            return Worker(fold=Fold(memory=worker.fold.memory))
        return Worker()

    def look_around(self, world: World, index: int, worker: Worker) -> Steps:
        """Step 6: idle; reopen if the lane row moved, else write the audited watermark."""
        row, audit = world.lane, worker.audit
        if not self.unmoved(row, worker.fold):
            if self.mutation is not Mutation.NO_IDLE_CHECK:
                yield f"{index} sees that its lane moved", put(world, index, self.dropped(worker))
        elif audit.phase == "ready" and self.mutation is not Mutation.WATERMARK_NOT_WRITTEN_WHEN_IDLE:
            audited = min(audit.next_offset, row.applied)
            if row.audited < audited:
                yield (
                    f"{index} writes the audited watermark {audited}",
                    world._replace(lane=row._replace(audited=audited)),
                )

    def emit(self, world: World, index: int, worker: Worker) -> Steps:
        """Step 5, in a thread of its own: open, send what lies from the next offset on, confirm."""
        audit = worker.audit
        if audit.phase == "ready":
            if worker.fold.opened:
                yield from self.confirm(world, index, worker) if audit.sending else self.send(world, index, worker)
            return
        if (audit.phase == "closed") == (self.mutation is Mutation.TAIL_BEFORE_INIT):
            yield self.read_tail(world, index, worker)
        else:
            yield self.init_transactions(world, index, worker)

    def init_transactions(self, world: World, index: int, worker: Worker) -> tuple[str, World]:
        """Step 5: fence the holder of the transactional.id; what it had open is aborted."""
        audit = worker.audit._replace(phase="begun" if worker.audit.phase == "closed" else "ready")
        topic = AuditPartition(index, (), False, world.topic.records, world.topic.wiped)
        return f"{index} init_transactions", put(world, index, worker._replace(audit=audit))._replace(topic=topic)

    def read_tail(self, world: World, index: int, worker: Worker) -> tuple[str, World]:
        """Step 5: where the last committed audit record ends; the audited watermark, if there is none."""
        topic = world.topic
        next_offset = worker.fold.audited if self.mutation is Mutation.WATERMARK_OF_THE_OPENING else world.lane.audited
        if len(topic.records) > topic.wiped:
            next_offset = topic.records[-1].offset + 1
        phase = worker.audit.phase
        audit = Audit("begun" if phase == "closed" else "ready", next_offset, worker.fold.opened)
        return f"{index} reads the tail {next_offset}", put(world, index, worker._replace(audit=audit))

    def send(self, world: World, index: int, worker: Worker) -> Steps:
        """Step 5: a transaction with what is queued from the next offset on; what lies below leaves the queue."""
        fold, audit = worker.fold, worker.audit
        due = tuple(entry for entry in fold.queue if entry.offset >= audit.next_offset)
        if len(due) < len(fold.queue) and self.mutation is not Mutation.AUDITED_ENTRY_KEPT:
            drained = worker._replace(fold=fold._replace(queue=due))
            yield f"{index} drops what is audited below {audit.next_offset}", put(world, index, drained)
            return
        if not due:
            return
        closed = put(world, index, worker._replace(audit=Audit()))
        if due[0].offset > audit.next_offset:
            if self.mutation is Mutation.STALE_TAIL_WAITS:
                return
            if audit.fresh:
                yield f"{index} stops", world._replace(broken="an audit stopped, but no audit event was lost")
            else:
                yield f"{index} finds its tail stale", closed
        elif world.topic.holder != index:
            yield f"{index} is fenced", closed
        else:
            if self.mutation is Mutation.ENTRY_DROPPED_BEFORE_CONFIRMED:
                fold = fold._replace(queue=())
            sent = Worker(True, fold, audit._replace(sending=due[-1].offset + 1))
            label = f"{index} sends {[entry.offset for entry in due]}"
            yield label, put(world, index, sent)._replace(topic=world.topic._replace(transaction=due))

    def confirm(self, world: World, index: int, worker: Worker) -> Steps:
        """Step 5: commit; an entry leaves the queue when its commit is confirmed. After any error, open again."""
        topic, audit = world.topic, worker.audit
        closed = worker._replace(audit=Audit())
        if topic.holder != index or not topic.transaction:
            yield f"{index} is fenced at its commit", put(world, index, closed)
            return
        queue = tuple(entry for entry in worker.fold.queue if entry.offset >= audit.sending)
        confirmed = Worker(True, worker.fold._replace(queue=queue), Audit("ready", audit.sending, audit.fresh))
        done = AuditPartition(index, (), False, topic.records + topic.transaction, topic.wiped)
        yield f"{index} commits its audit", put(world, index, confirmed)._replace(topic=done)
        if world.budget.lost_replies:
            if self.mutation is Mutation.PRODUCER_KEPT_AFTER_AN_ERROR:
                closed = worker._replace(audit=audit._replace(sending=0))
            left = world.budget._replace(lost_replies=world.budget.lost_replies - 1)
            after = put(world, index, closed)._replace(topic=topic._replace(ending=True), budget=left)
            yield f"{index} commits its audit, reply lost", after
