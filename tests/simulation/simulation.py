"""One run: two or three workers, a reader and an operator, faults at every step, and the oracle over what they leave."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from core_tables.consumer.audit_emitter import AuditEmitter, AuditPorts
from core_tables.consumer.audit_encoding import audit_of
from core_tables.consumer.audit_queue import AuditQueue, LaneQueue
from core_tables.consumer.dependencies import WorkerDependencies
from core_tables.consumer.sessions import Session
from core_tables.consumer.worker import Worker
from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.kafka.current_ends import AskedEnds
from core_tables.projection.cache.pending_cache import CachedList
from core_tables.projection.fold.evolve import evolve
from core_tables.projection.fold.pending import PendingQuery, PendingRecord, listed, pending_record
from core_tables.projection.fold.values import WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import partition_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.topic import LedgerTopic
from core_tables.schemas.vocabulary import MAX_I64, PENDING_STATUSES
from core_tables.schemas.wire import MARKER
from tests.builders import START
from tests.tables import Tables

from .broker import UNREADABLE, Broker, Consumer, Producer
from .cache import Redis, ShortLists
from .database import Database, Store
from .history import EVENTS, LATER_FINGERPRINT, TENANTS, History, release_knows_later_schema
from .scheduler import Actor, Scheduler

LANES = 2
FAULTY_TURNS = 700
MAX_TURNS = 9000
TOPIC = LedgerTopic(0, "ledger", "ledger-id", "cluster", LANES, "audit", "audit-id")


class ViolationError(AssertionError):
    """An invariant does not hold."""


UNKNOWN_SCHEMA = b"unknown!"  # registered, and of a release that never comes
STOPS = ("lane_stopped", "lane_waits_for_release")


@dataclass
class Log:
    """Keeps what a worker says at error level: in a simulation nothing may stop a lane, but a record that cannot be read."""

    stops: dict[int, int]  # by lane, where that record lies
    errors: list[str] = field(default_factory=list)

    def info(self, *_: object, **__: object) -> None: ...

    debug = warning = info

    def error(self, event: str, **details: Any) -> None:
        if event not in STOPS or self.stops.get(details["lane"]) != details["offset"]:
            self.errors.append(f"{event}: {details}")

    exception = error


class Process:
    """A worker process: the real worker and the real emitter, an actor each, over the models."""

    def __init__(self, run: "Simulation", name: str) -> None:
        self.run = run
        self.log = Log(run.stops)
        self.consumer = Consumer(run.broker)
        self.stores: list[Store] = []
        queue = AuditQueue(8)
        consumer: Any = self.consumer
        dependencies = WorkerDependencies(
            consumer=consumer,
            postgres=Session(self.open_store),
            cache=run.cache(lambda: run.scheduler.now),
            audit=queue,
            find_gaps=run.broker.gaps,
            check_topics=run.broker.check,
            check_clients=lambda: None,
            ends=AskedEnds(run.broker.ends, lambda: run.scheduler.now),
        )
        settings = WorkerSettings(batch_size=6, states_in_memory=4, audit_patience_s=0.0)
        self.worker = Worker(TOPIC, settings, dependencies, self.log, clock=lambda: run.scheduler.now)
        ports = AuditPorts(
            open_producer=self.open_producer,
            last_event_id=run.broker.last_event_id,
            ledger_end=run.broker.ledger_end,
            audited=run.database.audited,
            check_topics=run.broker.check,
            for_each=one_by_one,
            release=lambda _: None,
            clock=lambda: run.scheduler.now,
            chance=run.scheduler.chance.random,
        )
        self.emitter = AuditEmitter(queue, "audit", 0, ports, self.log)
        self.actors: list[Actor] = [
            run.scheduler.start(f"{name} fold", self.fold),
            run.scheduler.start(f"{name} audit", self.audit),
        ]
        self.assigned: set[int] = set()

    def open_producer(self, transactional_id: str) -> Any:
        return Producer(self.run.broker, transactional_id)

    def open_store(self) -> Any:
        self.run.scheduler.edge()
        self.stores.append(Store(self.run.database))
        return self.stores[-1]

    def fold(self) -> None:
        self.worker.subscribe()
        self.give(range(LANES))
        while True:
            self.worker.step()

    def audit(self) -> None:
        while True:
            self.emitter.step(0)
            self.run.scheduler.edge()

    def give(self, partitions: Sequence[int]) -> None:
        fresh = [partition for partition in partitions if partition not in self.assigned]
        self.assigned.update(fresh)
        self.consumer.give(fresh)

    def take(self, partition: int) -> None:
        if partition in self.assigned:
            self.assigned.discard(partition)
            self.consumer.take([partition])

    def pause(self, turns: int) -> None:
        """SIGSTOP, and SIGCONT after that many turns: the process sleeps wherever it is, with its locks."""
        for actor in self.actors:
            actor.wakes_at = self.run.scheduler.turns + turns

    def kill(self) -> None:
        """kill -9: both threads end where they are, and the server ends their sessions."""
        for actor in self.actors:
            actor.kill()
        for store in self.stores:
            store.close()


class Simulation:
    """A seeded run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._queries = random.Random(f"queries {seed}")  # of their own, so that a seed keeps its schedule
        self.scheduler = Scheduler(seed)
        self.chance = self.scheduler.chance
        self.broker = Broker(self.scheduler, LANES)
        self.database = Database(self.scheduler, LANES)
        self.redis = Redis(self.scheduler)
        self.repair_raises_epoch = self.registration_raises_epoch = True
        self.ends_asked_early = False
        self.faults: dict[str, int] = {}
        self.turns = 0
        self.stops: dict[int, int] = {}
        self.seen = [0] * LANES  # how many audit events of a lane were looked at
        self.audited = [0] * LANES
        self.drifted: list[int] = []
        self.history = History(self.chance, seed, LANES)
        self.registering = random.Random(seed)
        self.asked_ends: list[int] | None = None  # where the logs ended when `init` began
        release_knows_later_schema(False)
        self.history.append_part(self.broker)
        if seed % 4 == 1:
            self._end_in_a_stop(seed // 4 % LANES)
        self.processes = [Process(self, name) for name in ("one", "two", "three")[: 3 if seed % 3 == 0 else 2]]
        self.scheduler.start("reader", self._read)

    def _end_in_a_stop(self, lane: int) -> None:
        """Behind all else in a lane comes a record that cannot be read, by us or by the client, and then one that must never be
        folded."""
        log, tables = self.broker.ledger[lane], self.database.tables
        row = tables.lanes[lane]
        tables.lanes[lane] = row._replace(schemas={**row.schemas, UNKNOWN_SCHEMA.hex(): 0})
        value = UNREADABLE if self.seed % 8 == 1 else MARKER + UNKNOWN_SCHEMA + b"body"
        readable = next((record for record in log if record is not None), (b"", b""))
        self.stops[lane] = len(log)
        log += [(b"", value), readable]

    def cache(self, clock: Callable[[], float]) -> ShortLists:
        """The real client of the cache, over the model of Redis."""
        client: Any = self.redis
        return ShortLists(client, "topic", clock)

    def execute(self) -> "Simulation":
        """Run with faults, then without, until everything is folded and audited. Raises ViolationError."""
        while not self._finished():
            self.turns += 1
            faulty = self.turns < FAULTY_TURNS
            for part in (self.broker, self.database, self.redis):
                part.faults = 0.01 if faulty else 0.0
            if faulty:
                self._fault()
            elif self.turns == FAULTY_TURNS:
                self._calm()
            self._operate()
            self._init_of_a_later_release(faulty)
            self.scheduler.turn()
            self._check_always()
            if self.turns > MAX_TURNS:
                raise self._violation("stuck: not everything was folded and audited")
        self._check_end()
        return self

    def _finished(self) -> bool:
        if self.turns < FAULTY_TURNS or self.drifted or not self.history.complete:
            return False
        return all(
            self.database.tables.lanes[lane].applied == self.history.ends[lane]
            and (lane not in self.stops or self.database.tables.lanes[lane].audited == self.history.ends[lane])
            and len(self.broker.audit[lane]) == len(self.history.records[lane])
            and self._label_settled(lane)
            for lane in range(LANES)
        )

    def _label_settled(self, lane: int) -> bool:
        """Whether the lane's label is where Postgres is; nobody tells Redis of a repair but the worker's own checks."""
        row = self.database.tables.lanes[lane]
        cached = self.cache(lambda: 1e9).read(lane, PendingQuery("", "", 0))
        return cached.labelled(row.epoch, row.applied)

    def _fault(self) -> None:
        """Now and then, something happens to a process, a lane, or a server."""
        roll = self.chance.random()
        process = self.chance.choice(self.processes)
        if roll < 0.004:
            self._count("kill")
            process.kill()
            self.processes[self.processes.index(process)] = Process(self, f"again {self.turns}")
        elif roll < 0.010:
            self._count("revoke")
            process.take(self.chance.randrange(LANES))
        elif roll < 0.020:
            process.give([self.chance.randrange(LANES)])
        elif roll < 0.026:
            self.fail_over()
        elif roll < 0.028:
            self._count("flush")
            self.redis.flush()
        elif roll < 0.032 and not self.drifted:
            self._drift()
        elif roll < 0.036:
            self._count("pause")
            process.pause(self.chance.choice((20, 60, 200)))
        elif roll < 0.040:
            self._wipe(self.chance.randrange(LANES))

    def fail_over(self) -> None:
        """A standby takes over."""
        self._count("failover")
        self.database.failover()
        self.audited = [0] * LANES  # the only thing that may lower one
        self._look_for_drift()  # the last commit may have been the repair

    def _calm(self) -> None:
        """No more faults: every lane has an owner."""
        for process in self.processes:
            process.give(range(LANES))

    def _wipe(self, lane: int) -> None:
        """Retention empties an audit partition. That takes days, so Postgres and its standby have the audited watermark by then."""
        audits, tables, before = self.broker.audit[lane], self.database.tables, self.database.before
        end = offset(audits[-1].event_id) + 1 if audits else 0
        if end and tables.lanes[lane].audited == end and before.lanes[lane].applied >= end:
            self._count("wipe")
            before.lanes[lane] = before.lanes[lane]._replace(audited=end)
            self.broker.wiped[lane] = len(audits)

    def _drift(self) -> None:
        """Somebody changes a row that is none of theirs; an operator will repair it.

        Only what no decision reads: a status that drifts decides about the next cancel, and `verify --topic` tells.
        """
        tables = self.database.tables.copy()
        if tables.current:
            key = self.chance.choice(sorted(tables.current))
            row = tables.current[key]
            tables.current[key] = replace(row, confirmation_state="EXPIRED", intent_type=f"drift {self.turns}")
            # A standby has it too: a drift that a failover undid, unseen, would stay in a list until its time is up.
            self.database.before = self.database.tables = tables
            self.drifted.append(partition_of(key[0].encode(), LANES))
            self._count("drift")

    def _look_for_drift(self) -> None:
        self.drifted = sorted({partition_of(key[0].encode(), LANES) for key in drifted_rows(self.database.tables)})

    def _operate(self) -> None:
        """The operator's rebuild: under the lane's lock, rows are replaced and the epoch is raised."""
        if not self.drifted or self.chance.random() > 0.02 or self.drifted[0] in self.database.locks:
            return
        lane = self.drifted.pop(0)
        self._count("repair")
        tables = self.database.tables.copy()
        for key, state in folded(tables.events()).items():
            if partition_of(key[0].encode(), LANES) == lane:
                tables.put_instead(state)
        row = tables.lanes[lane]
        tables.lanes[lane] = row._replace(epoch=row.epoch + self.repair_raises_epoch)
        self.database.commit(tables)

    def _init_of_a_later_release(self, faulty: bool) -> None:
        """`init` registers a schema from the ends of the logs on, under the lanes' locks; workers that know it follow.

        Records are appended before, between its start and the locks, and after. That producers follow only when a standby has
        the registration is up to people.
        """
        if self.history.complete or (faulty and self.registering.random() > 0.01) or self.database.locks:
            return
        if self.asked_ends is None:
            self.asked_ends = [len(log) for log in self.broker.ledger]
        else:
            self._count("registration")
            ends = self.asked_ends if self.ends_asked_early else [len(log) for log in self.broker.ledger]
            tables, first_offsets = self.database.tables.copy(), {}
            for lane, row in tables.lanes.items():
                first_offsets[lane] = max(ends[lane], row.applied)
                schemas = {**row.schemas, LATER_FINGERPRINT: first_offsets[lane]}
                tables.lanes[lane] = row._replace(epoch=row.epoch + self.registration_raises_epoch, schemas=schemas)
            self.database.before = self.database.tables = tables
            release_knows_later_schema(True)
            self.history.decide(first_offsets)
        self.history.append_part(self.broker)

    def _read(self) -> None:
        """A reader: the cache, and on a miss Postgres and a fill."""
        cache = self.cache(lambda: self.scheduler.now)
        while True:
            query = self._query(self.chance.choice(TENANTS))
            lane = partition_of(query.tenant_id.encode(), LANES)
            found = cache.read(lane, query)
            row = self.database.tables.lanes[lane]
            if lane not in self.drifted and found.labelled(row.epoch, found.position or 0):
                self._check_list(lane, query, found)
            self.scheduler.edge()
            if found.label is not None and found.records is None:
                row = self.database.tables.lanes[lane]
                records = _listed(self.database.tables.states(query.tenant_id))
                self.scheduler.edge()
                if found.labelled(row.epoch, row.applied) or not self.redis.fenced:
                    cache.fill(found.label, lane, (query.tenant_id, query.requester_user_id), records)

    def _query(self, tenant: str) -> PendingQuery:
        """Any statuses and numbers of records; the window ends at the time of some record, or nowhere."""
        statuses = frozenset(status for status in sorted(PENDING_STATUSES) if self._queries.random() < 0.7)
        since = self._queries.choice((0, START + self._queries.randrange(EVENTS)))
        return PendingQuery(tenant, "ada", MAX_I64, statuses, MAX_I64 - since, self._queries.choice((1, 2, 3)))

    def _check_always(self) -> None:
        """After every turn: no lane stopped, the audit is a prefix of the outcomes, nobody died of an error."""
        for process in self.processes:
            if process.log.errors:
                raise self._violation(process.log.errors[0])
        for actor in self.scheduler.actors:
            if actor.error is not None:
                raise self._violation(f"{actor.name}: {actor.error!r}") from actor.error
        for lane, audits in enumerate(self.broker.audit):
            fallen, self.audited[lane] = self.audited[lane], self.database.tables.lanes[lane].audited
            if fallen > self.audited[lane]:
                raise self._violation(
                    f"the audited watermark of lane {lane} fell from {fallen} to {self.audited[lane]}"
                )
            if len(audits) != self.seen[lane]:
                self.seen[lane] = len(audits)
                if [event.event_id for event in audits] != self.history.records[lane][: len(audits)]:
                    raise self._violation(f"audit of lane {lane}: {[offset(event.event_id) for event in audits]}")

    def _check_end(self) -> None:
        """Ledger = fold = tables = cache, and the audit one to one."""
        tables = self.database.tables
        if tables.outcomes != {event_id: decided.outcome for event_id, decided in self.history.decided.items()}:
            raise self._violation("the outcomes are not those of the reference fold")
        if tables.events() != {
            at: d.event for at, d in self.history.decided.items() if isinstance(d.outcome, Accepted)
        }:
            raise self._violation("the ledger rows are not the events that the reference fold accepted")
        for lane, audits in enumerate(self.broker.audit):
            if audits != [audit_of(self.history.decided[event_id]) for event_id in self.history.records[lane]]:
                raise self._violation(f"the audit events of lane {lane} do not tell the outcomes of the reference fold")
        for key in drifted_rows(tables):
            raise self._violation(f"the rows of {key} are not the fold of its ledger rows")
        cache = self.cache(lambda: 1e9)
        for tenant in TENANTS:
            lane = partition_of(tenant.encode(), LANES)
            for _ in range(5):
                query = self._query(tenant)
                self._check_list(lane, query, cache.read(lane, query))

    def _check_list(self, lane: int, query: PendingQuery, found: CachedList) -> None:
        """What the cache answers is what the fold at its label would, and of this tenant."""
        if found.records is None or found.position is None:
            return
        folded = self.history.lists[lane][found.position]
        expected = listed([_plain(record) for record in folded if _owner(record) == query.tenant_id], query)
        if found.records != expected:
            raise self._violation(f"the answer to {query} is not that of the fold at its label {found.label}")

    def close(self) -> None:
        """End every actor."""
        for actor in self.scheduler.actors:
            actor.kill()
        release_knows_later_schema(False)

    def _count(self, fault: str) -> None:
        self.faults[fault] = self.faults.get(fault, 0) + 1

    def _violation(self, what: str) -> ViolationError:
        return ViolationError(f"seed {self.seed}, turn {self.turns}: {what}")


def one_by_one(do: Callable[[LaneQueue], object], queues: list[LaneQueue]) -> None:
    for queue in queues:
        do(queue)


def offset(event_id: int) -> int:
    return (event_id & (2**42 - 1)) - 1


def folded(ledger: dict[int, LedgerEvent]) -> dict[WorkOrderKey, WorkOrder]:
    """The fold of ledger rows."""
    states: dict[WorkOrderKey, WorkOrder] = {}
    for event_id, event in sorted(ledger.items()):
        key = (event.tenant_id, event.work_order_id)
        states[key] = evolve(states.get(key), event, event_id)
    return states


def drifted_rows(tables: Tables) -> list[WorkOrderKey]:
    """The work orders whose rows are not the fold of their ledger rows."""
    expected = Tables()
    for state in folded(tables.events()).values():
        expected.put(state)
    return [key for key in expected.current if tables.rows(key) != expected.rows(key)]


def _owner(record: PendingRecord) -> str:
    return record.work_order_id.partition("/")[0]


def _plain(record: PendingRecord) -> PendingRecord:
    return replace(
        record, work_order_id=record.work_order_id.partition("/")[2], missing_fields=list(record.missing_fields)
    )


def _listed(states: list[WorkOrder]) -> list[PendingRecord]:
    """All pending records, in order."""
    found = map(pending_record, states)
    plain = [replace(record, missing_fields=list(record.missing_fields)) for record in found if record is not None]
    return sorted(plain, key=lambda record: (-record.last_updated_at, record.work_order_id))
