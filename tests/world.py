"""A world of its own for a test module: a database, two topics, and helpers to drive and to look at them."""

import contextlib
import copy
import itertools
import json
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, LiteralString

import psycopg
import structlog
from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from core_tables.cli import wiring, worker_wiring
from core_tables.cli.init import initialize
from core_tables.cli.schemas import CopiedSchema
from core_tables.consumer.dependencies import Traced
from core_tables.consumer.probes import HALTING, WorkerProbes
from core_tables.consumer.worker import Worker
from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.deploy.stack import StackAddresses
from core_tables.kafka.clients import admin_client
from core_tables.kafka.log import TopicReader
from core_tables.producer import Ledger, Receipt
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.postgres.store import Store
from core_tables.projection.verify.report import Report, Scope, whole_report
from core_tables.projection.verify.tables import verify
from core_tables.schemas.audit import decode_audit
from core_tables.schemas.events import AuditEvent, LedgerEvent
from core_tables.schemas.outcomes import Outcome
from core_tables.schemas.reasons import CoreTablesError, StopCause, stop_cause
from core_tables.settings.environment import Settings

from . import forking

DEADLINE_S = 60.0
_numbers = itertools.count(1)


def wait_until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S, pause_s: float = 0.02) -> Any:
    """Poll a condition until it holds; fail with what was waited for."""
    pause = threading.Event()
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {deadline_s:.0f} s for: {what}"
        pause.wait(pause_s)


def free_ports(count: int = 1) -> int:
    """The first of as many ports in a row that nobody listens on, below those that the system gives to connections."""
    while True:
        port = secrets.choice(range(10_000, 20_000 - count))
        with contextlib.ExitStack() as held:
            try:
                for number in range(count):
                    held.enter_context(socket.create_server(("127.0.0.1", port + number)))
            except OSError:
                continue
            return port


@dataclass
class RunningWorker:
    """A worker in a thread of this process, and its audit thread."""

    worker: Worker
    thread: threading.Thread
    audit: Any
    probes: WorkerProbes
    errors: list[BaseException] = field(default_factory=list)
    log: list[MutableMapping[str, Any]] = field(default_factory=list)

    def log_lines(self, event: str) -> list[MutableMapping[str, Any]]:
        """The lines it logged under an event code."""
        return [line for line in self.log if line["event"] == event]

    def has_stopped(self, partition: int, cause: StopCause) -> None:
        """Fail unless a lane has stopped for a cause, and the probes say what they should of it."""
        lane = self.worker.lanes[partition]
        assert lane.stopped is not None
        assert stop_cause(lane.stopped) == cause
        assert self.probes.alive().ok, "a restart would not help"
        ready = self.probes.ready()
        assert (lane.lane in {each["lane"] for each in ready.body["problems"]}) == (cause in HALTING)
        (shown,) = [each for each in ready.body["lanes"] if each["lane"] == lane.lane]
        assert (shown["state"], shown["cause"]) == ("stopped", lane.stopped.message)

    def stop(self) -> None:
        """End it as SIGTERM would."""
        self.worker.stop()
        self.thread.join(30)
        if self.audit is not None:
            self.audit.close(flush=True)
        self.worker.close(clean=not self.errors)


class World:
    """Topics, a database, and what a test does with them."""

    def __init__(self, stack: StackAddresses, name: str, partitions: int = 12, lanes: str | None = None) -> None:
        """`lanes`: which lanes lie in which database, as a setting; a database is made in each."""
        self.name = name
        self.settings = Settings(
            bootstrap_servers=stack.bootstrap_servers,
            postgres_dsn=make_conninfo(stack.postgres_dsn, dbname=name),
            postgres_lanes=lanes,
            redis_url=stack.redis_url,
            topic=f"{name}.ledger",
            audit_topic=f"{name}.audit",
            group_id=name,
            partitions=partitions,
        )
        for database in self.settings.databases():
            other = make_conninfo(database.admin(), dbname=conninfo_to_dict(stack.postgres_dsn)["dbname"])
            with psycopg.connect(other, autocommit=True) as connection:
                connection.execute(SQL("create database {}").format(Identifier(name)))
        self.stack = stack
        self.acknowledged: dict[int, LedgerEvent] = {}  # by event id, what the broker said is durable
        self.reconnect()

    def reconnect(self) -> None:
        """Begin with connections to where the settings point now."""
        self._open: contextlib.ExitStack = contextlib.ExitStack()
        self.admins = [psycopg.connect(each.admin(), autocommit=True) for each in self.settings.databases()]
        for admin in self.admins:
            self._open.callback(admin.close)
        self.admin = self.admins[0]
        self._ledger: Ledger | None = None
        self._reads: Reads | None = None

    def init(self) -> list[str]:
        """What `core-tables init` does."""
        return initialize(self.settings)

    def register(self, fingerprint: str) -> list[str]:
        """Register a writer schema from the ends of the logs on, as `init` of a release that knows it does."""
        topic = wiring.known_topic(self.settings)
        copy = [
            CopiedSchema(
                topic=topic.topic, topic_id=topic.topic_id, partition=at, fingerprint=fingerprint, first_offset=end
            )
            for at, end in self.log_ends().items()
        ]
        return initialize(self.settings, copy)

    def kafka_admin(self) -> AdminClient:
        """A client for topics, groups and permissions; keep it until it has answered."""
        return admin_client(self.settings.kafka_settings())

    @contextlib.contextmanager
    def topic(self, name: str) -> Iterator[TopicReader]:
        """A reader of a topic."""
        with contextlib.closing(wiring.topic_reader(self.settings, name)) as reader:
            yield reader

    @property
    def ledger(self) -> Ledger:
        """The appending side."""
        if self._ledger is None:
            self._ledger = wiring.ledger(self.settings)
            self._open.callback(self._ledger.close)
        return self._ledger

    @property
    def reads(self) -> Reads:
        """The reads, with the cache."""
        if self._reads is None:
            self._reads = wiring.reads(self.settings)
            self._open.callback(self._reads.close)
        return self._reads

    def store(self) -> Store:
        """The worker's side of Postgres, on a connection of its own."""
        store = worker_wiring.worker_store(self.settings.worker(), "test store")
        self._open.callback(store.connection.close)
        return store

    def append(self, *events: LedgerEvent) -> list[Receipt]:
        """Append events and wait until they are durable."""
        receipts = [self.ledger.append(event) for event in events]
        for receipt in receipts:
            self.note(receipt)
        return receipts

    def note(self, receipt: Receipt, timeout: float = DEADLINE_S) -> int:
        """Wait until an append is durable, and remember that it is: the oracle looks for it."""
        event_id = receipt.event_id(timeout)
        known = self.acknowledged.setdefault(event_id, receipt.event)
        assert known is receipt.event, f"two appends were acknowledged as {event_id}"
        return event_id

    def outcome(self, event: LedgerEvent) -> Outcome:
        """Append one event and await its outcome; a worker must run."""
        (receipt,) = self.append(event)
        outcome = receipt.outcome(DEADLINE_S)
        assert outcome is not None, "the outcome is still pending"
        return outcome

    def produce(self, key: bytes | None, value: bytes | None, partition: int, **headers: bytes) -> int:
        """Write a record as somebody else's program might; its offset."""
        producer = Producer({"bootstrap.servers": self.stack.bootstrap_servers, "message.max.bytes": 2_000_000})
        offsets: list[Any] = []
        producer.produce(
            self.settings.topic,
            value,
            key,
            partition,
            headers=list(headers.items()),
            on_delivery=lambda error, message: offsets.append((error, message.offset())),
        )
        producer.flush(20)
        error, offset = offsets[0]
        assert error is None, error
        return int(offset)

    @contextlib.contextmanager
    def working(
        self, *, audit: bool = True, batch_size: int = 2000, traced: Traced | None = None, **settings: Any
    ) -> Iterator[RunningWorker]:
        """A worker that runs as long as the block does; `settings` are more of WorkerSettings."""
        lines: list[MutableMapping[str, Any]] = []
        every = structlog.make_filtering_bound_logger(logging.DEBUG)
        log = structlog.wrap_logger(structlog.ReturnLogger(), [partial(_kept, lines)], wrapper_class=every)
        worker_settings = WorkerSettings(batch_size=batch_size, **settings)
        worker, audit_thread = worker_wiring.worker(self.settings, worker_settings, audit=audit, log=log, traced=traced)
        probes = WorkerProbes(worker_settings)
        thread = threading.Thread(target=lambda: self._run(running))
        running = RunningWorker(worker, thread, audit_thread, probes, log=lines)
        if audit_thread is not None:
            audit_thread.start()
        probes.follow(worker, audit_thread)
        running.thread.start()
        try:
            yield running
        finally:
            running.stop()

    @staticmethod
    def _run(running: RunningWorker) -> None:
        try:
            running.worker.run()
        except BaseException as error:
            running.errors.append(error)

    def worker_process(self, *arguments: str, log: Any = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
        """A worker as an operator starts it."""
        return subprocess.Popen(
            [sys.executable, "-m", "core_tables.cli.main", "worker", *arguments],
            env=self.environment(),
            stdout=log,
            stderr=log,
        )

    def environment(self) -> dict[str, str]:
        """The environment that points the command to this world."""
        settings = self.settings
        return {
            **os.environ,
            "CORE_TABLES_BOOTSTRAP_SERVERS": settings.kafka_servers(),
            "CORE_TABLES_POSTGRES_DSN": settings.without_lanes().admin(),
            "CORE_TABLES_REDIS_URL": settings.cache() or "none",
            "CORE_TABLES_TOPIC": settings.topic,
            "CORE_TABLES_AUDIT_TOPIC": settings.audit_topic,
            "CORE_TABLES_GROUP_ID": settings.group_id,
            "CORE_TABLES_PARTITIONS": str(settings.partitions),
            "CORE_TABLES_KAFKA": json.dumps(dict(settings.kafka)),
            **({} if settings.postgres_lanes is None else {"CORE_TABLES_POSTGRES_LANES": settings.postgres_lanes}),
            **({} if settings.kafka_oauth is None else {"CORE_TABLES_KAFKA_OAUTH": settings.kafka_oauth}),
        }

    def command(self, *arguments: str, stdin: bytes = b"", **environment: str) -> "subprocess.CompletedProcess[bytes]":
        """Run core-tables to its end."""
        given = {**self.environment(), **environment}
        if forking.can_fork(given, stdin):
            return forking.run(arguments, given, stdin, DEADLINE_S)
        return subprocess.run(
            [sys.executable, "-m", "core_tables.cli.main", *arguments],
            env=given,
            input=stdin,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def create_role(self, name: str) -> None:
        """A role that logs in, with the administrator's password."""
        statement = SQL("create role {} login password {}")
        self.admin.execute(statement.format(Identifier(name), Literal(self.admin.info.password or None)))

    def set_topic(self, topic: str, setting: str, value: str) -> None:
        """Change a setting of a topic, as an operator might."""
        entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        admin = self.kafka_admin()
        for future in admin.incremental_alter_configs([resource]).values():
            future.result()

    def delete_records(self, below: dict[int, int]) -> None:
        """Delete the ledger's records below an offset of each partition, as retention would."""
        targets = [
            TopicPartition(self.settings.topic, partition, offset) for partition, offset in below.items() if offset
        ]
        admin = self.kafka_admin()
        for future in admin.delete_records(targets).values():
            future.result()

    def log_ends(self) -> dict[int, int]:
        """By partition, the end of the ledger topic."""
        with self.topic(self.settings.topic) as reader:
            return {partition: reader.bounds(partition)[1] for partition in range(self.settings.partitions)}

    def answers(self) -> bool:
        """Whether the broker leads every partition of the ledger topic and answers for it."""
        try:
            self.log_ends()
        except CoreTablesError:
            return False
        return True

    def positions(self) -> dict[int, tuple[int, int]]:
        """By lane, (applied, audited)."""
        rows = self.asked("select lane, applied, audited from os_core.lanes order by lane")
        return {lane: (applied, audited) for lane, applied, audited in rows}

    def drained(self) -> bool:
        """Whether everything in the topic is applied and audited; a broker that does not answer has not said so."""
        positions = self.positions()
        if any(applied != audited for applied, audited in positions.values()):
            return False  # most of the time; a broker that is asked less often has more time for its work
        try:
            ends = self.log_ends()
        except CoreTablesError:
            return False
        return all(applied == ends[lane] for lane, (applied, _) in positions.items())

    def drain(self, deadline_s: float = DEADLINE_S) -> None:
        """Wait until everything in the topic is applied and audited."""
        wait_until(self.drained, "the lanes to be folded and audited", deadline_s, pause_s=0.05)

    def messages(self, topic: str) -> dict[int, list[Message]]:
        """By partition, the records of a topic that a read_committed reader sees, in order."""
        found: dict[int, list[Message]] = {partition: [] for partition in range(self.settings.partitions)}
        with self.topic(topic) as reader:
            for message in reader.records(dict.fromkeys(found, 0)):
                found[message.partition() or 0].append(message)
        return found

    def audit_events(self) -> dict[int, list[AuditEvent]]:
        """By partition, the audit events that a read_committed reader sees, in order."""
        found = self.messages(self.settings.audit_topic)
        return {
            partition: [decode_audit(message.value() or b"") for message in messages]
            for partition, messages in found.items()
        }

    def audit_messages(self, partition: int) -> list[Message]:
        """The audit records of a partition as they lie in the topic."""
        with self.topic(self.settings.audit_topic) as reader:
            return list(reader.records({partition: 0}))

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """All rows of a table, in key order, as an administrator sees them."""
        return sorted(self.asked(f"select * from os_core.{table} order by 1, 2, 3, 4"), key=lambda row: row[:4])

    def asked(self, statement: LiteralString) -> list[tuple[Any, ...]]:
        """The rows of a statement, of each database."""
        return [row for admin in self.admins for row in admin.execute(statement).fetchall()]

    def verify(self) -> Report:
        """What `core-tables verify` finds."""
        reports = []
        for database in self.settings.databases():
            with contextlib.closing(wiring.operator(database)) as connection:
                reports.append(verify(connection, Scope(), cache=wiring.cache(self.settings, connection)))
        return whole_report(reports)

    def close(self) -> None:
        """Close the connections; the stack goes as a whole."""
        self._open.close()


def other_settings(world: World, **settings: Any) -> World:
    """The same world, reached with other settings and over connections of its own."""
    other = copy.copy(world)
    other.settings = world.settings.model_copy(update=settings)
    other.reconnect()
    return other


def _kept(lines: list[MutableMapping[str, Any]], _logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    lines.append(event)
    if event.get("level") == "error" or "exc_info" in event:
        print(event, file=sys.stderr)
    return ""


def new_world(stack: StackAddresses, partitions: int = 12, lanes: str | None = None) -> World:
    """A world that is set up, with a name of its own."""
    world = World(stack, f"ct{os.getpid()}x{next(_numbers)}", partitions, lanes)
    world.init()
    wait_until(world.answers, "the broker to lead the new topic")
    return world
