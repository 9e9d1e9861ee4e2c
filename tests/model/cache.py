"""The cache as a model (docs/ARCHITECTURE.md, "Stores"): a list that a reader sees equals the fold at the position of its label.

`advance` is step 4 of the worker's rule, the label's check is step 6; `read` and `fill` are the reader's. A call may be lost,
come late or arrive twice. Beyond safety, the list always comes back: from each state a reader can be answered by Redis.
"""

from .cache_world import (
    FIRST_NONCE,
    KEPT,
    LONGEST,
    QUERIES,
    RECORDS,
    Cached,
    Call,
    Entry,
    Label,
    Miss,
    Mutation,
    Query,
    Redis,
    Scenario,
    Steps,
    Worker,
    World,
    exchanged,
    faults,
    fold,
    fresh_nonce,
    put,
)

BATCH = 2  # records in the largest batch


class CacheRule:
    """The steps of worker and reader, one of them got wrong if the scenario says so."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.mutation = scenario.mutation
        self._judged: dict[tuple[Redis, Label], str | None] = {}  # many states have the same Redis

    def initial(self) -> World:
        """Nothing is folded; a label, no list."""
        return World(budget=self.scenario.budget)

    def violation(self, world: World) -> str | None:
        """What is wrong with what a reader would be answered."""
        label = world.seen if self.mutation is Mutation.LABEL_READ_BEFORE_THE_LIST else world.redis.label
        if label is None:
            return None
        shown = (world.redis, label)
        if shown not in self._judged:
            self._judged[shown] = self.judge(world.redis, label)
        return self._judged[shown]

    def judge(self, redis: Redis, label: Label) -> str | None:
        """What is wrong with what a reader makes of Redis, who has read this label."""
        for query in QUERIES:
            answer = self.answer(redis, label, query)
            right = fold(label.position, label.epoch)
            if (
                answer is not None
                and answer != tuple(entry for entry in right if entry.age <= query.oldest)[: query.most]
            ):
                return f"{query} at {label} is answered with {answer}, from {right}"
        return None

    def answer(self, redis: Redis, label: Label, query: Query) -> tuple[Entry, ...] | None:
        """What a reader makes of the label and the list under its nonce; None if they do not answer the query."""
        cached, mutation = redis.cached, self.mutation
        if cached is None or (cached.nonce != label.nonce and mutation is not Mutation.NONCE_NOT_COMPARED):
            return () if mutation is Mutation.ABSENT_LIST_MEANS_EMPTY else None
        first = cached.entries[: query.most]
        chosen = tuple(entry for entry in first if entry.age <= query.oldest)
        if len(first) == query.most or cached.marker is None or mutation is Mutation.MARKER_IGNORED:
            return chosen
        reaches = mutation is Mutation.WINDOW_REACHES_THE_MARKER and query.oldest == cached.marker.age
        return chosen if query.oldest < cached.marker.age or reaches else None

    def canonical(self, world: World) -> World:
        """The workers follow one rule, so which is called 0 makes no difference."""
        first, second = world.workers
        in_order = (first.applied, first.epoch, first.call or ()) <= (second.applied, second.epoch, second.call or ())
        return world if in_order else exchanged(world)

    def complete(self, world: World) -> bool:
        """Everything is folded, and a reader is answered by Redis, at the end."""
        return (
            world.applied == self.scenario.records
            and world.redis.label is not None
            and world.redis.label[1:] == (world.applied, world.epoch)
            and self.answer(world.redis, world.redis.label, Query(KEPT)) is not None
        )

    def steps(self, world: World) -> Steps:
        """Everything that can happen next."""
        yield from faults(world)
        for index, worker in enumerate(world.workers):
            if (worker.applied, worker.epoch) != (world.applied, world.epoch):
                yield f"{index} reopens at {world.applied}", put(world, index, Worker(world.applied, world.epoch))
            elif worker.call is None:
                yield from self.commit(world, index, worker)
                yield from self.check_label(world, index, worker)
            if worker.call is not None:
                yield from self.send(world, index, worker, worker.call)
        yield from self.read(world) if world.reader is None else self.fill(world, world.reader)

    def commit(self, world: World, index: int, worker: Worker) -> Steps:
        """Steps 2 to 4: commit a batch; its call to Redis is still to come."""
        for end in range(worker.applied + 1, min(self.scenario.records, worker.applied + BATCH) + 1):
            call = Call(worker.applied, end, worker.epoch)
            committed = put(world, index, Worker(end, worker.epoch, call))
            yield f"{index} commits to {end}", committed._replace(applied=end)

    def check_label(self, world: World, index: int, worker: Worker) -> Steps:
        """Step 6: an idle lane's label is advanced from applied to applied: one lost, behind or of another epoch is renewed."""
        label = world.redis.label
        wrong = label is None or label.position < worker.applied or label.epoch != worker.epoch
        if self.mutation is not Mutation.NO_LABEL_CHECK and wrong:
            call = Call(worker.applied, worker.applied, worker.epoch)
            yield f"{index} checks the label", put(world, index, worker._replace(call=call))

    def send(self, world: World, index: int, worker: Worker, call: Call) -> Steps:
        """The call is lost, or arrives; when only its reply is lost, it may arrive again."""
        done = worker._replace(call=None)
        yield f"{index}'s call is lost", put(world, index, done)
        advanced = self.advance(world, call)
        label = f"{index} advances {call.start} to {call.end}"
        yield label, put(advanced, index, done)
        yield f"{label}, reply lost", advanced

    def advance(self, world: World, call: Call) -> World:
        """advance.lua: from its position a label moves, ahead it stays; in doubt, and of another epoch, a new nonce forgets."""
        label, mutation = world.redis.label, self.mutation
        if label is None:
            return (
                self.adopt(world, FIRST_NONCE, call)
                if mutation is Mutation.MISSING_LABEL_ADOPTED
                else renew(world, call)
            )
        if label.epoch != call.epoch and mutation is not Mutation.LABEL_WITHOUT_EPOCH:
            return renew(world, call)
        if label.position == call.start or mutation is Mutation.CHANGES_APPLIED_AT_ANY_POSITION:
            return self.adopt(world, label.nonce, call)
        if label.position >= call.end:
            ahead = mutation is Mutation.APPLIED_WHEN_THE_LABEL_IS_AHEAD
            return self.adopt(world, label.nonce, call) if ahead else world
        return self.adopt(world, label.nonce, call) if mutation is Mutation.LABEL_BEHIND_ADOPTED else renew(world, call)

    def adopt(self, world: World, nonce: int, call: Call) -> World:
        """Move the label under a nonce, and apply the changes to its list, if there is one."""
        cached = world.redis.cached
        if cached is not None and cached.nonce == nonce:
            cached = self.changed(cached, call)
        return world._replace(redis=Redis(Label(nonce, call.end, call.epoch), cached))

    def changed(self, cached: Cached, call: Call) -> Cached:
        """The list after the changes of a batch: of each work order, the entry before it leaves, and that after it is added."""
        before, after = fold(call.start, call.epoch), fold(call.end, call.epoch)
        for name in dict.fromkeys(name for name, _ in RECORDS[call.start : call.end]):
            old, new = _entry(before, name), _entry(after, name)
            entries = set(cached.entries)
            if old is not None and self.mutation is not Mutation.OLD_ENTRY_LEFT:
                entries.discard(old)
            below = new is not None and cached.marker is not None and new > cached.marker
            if new is not None and (not below or self.mutation is Mutation.ADDED_BELOW_THE_MARKER):
                entries.add(new)
            cached = self.cut(cached._replace(entries=tuple(sorted(entries))))
        return cached

    def cut(self, cached: Cached) -> Cached:
        """A list that is too long keeps its newest entries, and says that it ends there."""
        if len(cached.entries) <= LONGEST:
            return cached
        entries = cached.entries[:KEPT]
        return cached._replace(
            entries=entries, marker=cached.marker if self.mutation is Mutation.CUT_WITHOUT_MARKER else entries[-1]
        )

    def read(self, world: World) -> Steps:
        """A reader that misses asks Postgres for rows and applied, in one statement."""
        label = world.redis.label
        if self.mutation is Mutation.LABEL_READ_BEFORE_THE_LIST and label is not None and world.seen != label:
            yield "a reader reads the label", world._replace(seen=label)
        if label is None or any(self.answer(world.redis, label, query) is None for query in QUERIES):
            miss = Miss(label, world.applied, world.epoch)
            yield f"a reader misses, Postgres answers for {world.applied}", world._replace(reader=miss)

    def fill(self, world: World, miss: Miss) -> Steps:
        """fill.lua: store the answer only if the label still is there, and at the answer's position."""
        label, mutation = world.redis.label, self.mutation
        allowed = miss.label == label and label is not None and label[1:] == miss[1:]
        if mutation is Mutation.FILL_WITHOUT_FENCE:
            allowed = True
        elif mutation is Mutation.FILL_FENCED_BY_NONCE_ONLY and miss.label is not None and label is not None:
            allowed = miss.label.nonce == label.nonce and miss.label.position == miss.position
        elif mutation is Mutation.SNAPSHOT_NOT_AT_THE_LABEL:
            allowed = miss.label == label
        elif mutation is Mutation.FILL_ACROSS_A_REPAIR:
            allowed = miss.label == label and label is not None and label.position == miss.position
        if allowed and label is not None:
            rows = fold(miss.position, miss.epoch)
            more = len(rows) > KEPT and mutation is not Mutation.FILLED_WITHOUT_MARKER
            filled = Cached(label.nonce, rows[:KEPT], rows[KEPT - 1] if more else None)
            yield "the reader fills", world._replace(redis=Redis(label, filled), reader=None)
        else:
            yield "the fill is refused", world._replace(reader=None)


def _entry(entries: tuple[Entry, ...], name: str) -> Entry | None:
    return next((entry for entry in entries if entry.name == name), None)


def renew(world: World, call: Call) -> World:
    """In doubt: a new nonce, under which there is no list."""
    return world._replace(redis=Redis(Label(fresh_nonce(world), call.end, call.epoch), world.redis.cached))
