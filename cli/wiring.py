"""Builds the parts from the settings: the one place that opens connections for the command."""

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from core_tables.cli.settings import Settings
from core_tables.consumer.audit import AuditEmitter, AuditPorts, AuditThread, in_threads, let_go_aside
from core_tables.consumer.audit_queue import AuditQueue
from core_tables.consumer.dependencies import Session, WorkerDependencies
from core_tables.consumer.settings import WorkerSettings
from core_tables.consumer.worker import Worker
from core_tables.kafka.clients import REQUEST_TIMEOUT_S, audit_producer, ledger_consumer, tail_consumer
from core_tables.kafka.errors import translate
from core_tables.kafka.log import log_bounds
from core_tables.kafka.settings import KafkaSettings
from core_tables.kafka.tail import AuditTail, LogProbe
from core_tables.kafka.topics import RESTORE, ClusterFacts, check_again, check_topics, create_topics, describe
from core_tables.producer import Ledger, LedgerSettings
from core_tables.projection.cache.pending_cache import PendingCache, connect_cache
from core_tables.projection.fold.batch import Record, read_content
from core_tables.projection.postgres.connection import PLANNED_ONCE, PROBES, Connection, connect, translated
from core_tables.projection.postgres.migrate import check_database, migrate, register_topic
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.postgres.store import LanePosition, Store
from core_tables.projection.verify.report import Difference, Report
from core_tables.projection.verify.topic import LaneLog, rows_between, rows_by_lane, verify_lane
from core_tables.schemas.identity import event_id_at
from core_tables.schemas.reasons import CoreTablesError, SetupError, UnavailableError
from core_tables.schemas.topic import LedgerTopic


def logger() -> Any:
    """JSON lines on standard error, each with an event code."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    return structlog.get_logger()


def kafka_log() -> logging.Logger:
    """Where the Kafka client's own lines go: nowhere, since what matters comes back as errors."""
    log = logging.getLogger("core_tables.kafka")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    return log


def kafka_settings(settings: Settings) -> KafkaSettings:
    """How every Kafka client reaches the broker."""
    return KafkaSettings(settings.kafka_servers(), settings.group_id, settings.kafka)


def admin_client(settings: Settings) -> AdminClient:
    """A client for topics and positions."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_servers(),
        "log_level": 0,
        "socket.timeout.ms": 10_000,
        **settings.kafka,
    }
    return AdminClient(config, logger=kafka_log())


def cache(settings: Settings, connection: Connection) -> PendingCache | None:
    """The cache of the ledger that a connection's database holds, if there is one."""
    url = settings.cache()
    if url is None:
        return None
    return PendingCache(connect_cache(url), registered_topic(settings, connection).topic_id)


def reads(settings: Settings) -> Reads:
    """The reads, as the reader's role."""
    connection = connect(settings.reader(), name="core-tables reads", plans=PLANNED_ONCE)
    return Reads(connection, cache(settings, connection))


def ledger(settings: Settings) -> Ledger:
    """The appending side, able to await outcomes."""
    return Ledger.connect(
        LedgerSettings(settings.kafka_servers(), settings.reader(), settings.topic, settings.kafka), log=kafka_log()
    )


def operator(settings: Settings) -> Connection:
    """A connection that sees every tenant and changes nothing."""
    return connect(settings.operator(), name="core-tables operator", statement_timeout_ms=600_000)


def initialize(settings: Settings) -> list[str]:
    """Create topics, migrate, register the lanes; return what was done. Raises SetupError on topics set up otherwise."""
    admin = admin_client(settings)
    names = [settings.topic, settings.audit_topic]
    present = describe(admin, names)
    connection = connect(settings.admin(), name="core-tables init")
    done = [f"applied the migration {name}" for name in migrate(connection)]
    known = Store(connection).topics()
    _refuse_lost_topics(present, names, known)
    done += [
        f"created the topic {name}" for name in create_topics(admin, names, settings.partitions, settings.replication)
    ]
    facts = describe(admin, names)
    row = _topic_row(settings, facts, known)
    check_topics(facts, row)
    if register_topic(connection, row):
        done.append(f"made {row.partitions} lanes for {row.topic}")
    return done


def _refuse_lost_topics(present: ClusterFacts, asked: list[str], known: list[LedgerTopic]) -> None:
    """A topic that the database knows is never made anew: its positions are the ids, so it would be another ledger."""
    for row in known:
        for name in {row.topic, row.audit_topic}.intersection(asked) - present.topics.keys():
            raise SetupError(f"the topic {name} does not exist, though the database knows it; {RESTORE}", "topic")


def _topic_row(settings: Settings, facts: ClusterFacts, known: list[LedgerTopic]) -> LedgerTopic:
    """The row of the topic: the one the database has, or a new one whose lanes continue after the last."""
    for row in known:
        if row.topic == settings.topic:
            return row
    for name in (settings.topic, settings.audit_topic):
        if facts.topics[name].partitions != settings.partitions:
            raise SetupError(
                f"the topic {name} has {facts.topics[name].partitions} partitions, but {settings.partitions} are asked for; "
                f"set CORE_TABLES_PARTITIONS={facts.topics[name].partitions}, or choose another topic",
                "topic",
            )
    first_lane = max((row.first_lane + row.partitions for row in known), default=0)
    ledger_topic, audit_topic = facts.topics[settings.topic], facts.topics[settings.audit_topic]
    return LedgerTopic(
        first_lane,
        settings.topic,
        ledger_topic.topic_id,
        facts.cluster_id,
        settings.partitions,
        settings.audit_topic,
        audit_topic.topic_id,
    )


def registered_topic(settings: Settings, connection: Connection) -> LedgerTopic:
    """The row of the topic that the settings name. Raises SetupError."""
    for row in Store(connection).topics():
        if row.topic == settings.topic:
            return row
    raise SetupError(f"the database does not know the topic {settings.topic}; run `core-tables init`", "database")


def worker(
    settings: Settings, worker_settings: WorkerSettings, *, audit: bool, log: Any
) -> tuple[Worker, AuditThread | None]:
    """A worker and its audit thread, after the start-up checks. Raises SetupError or UnavailableError."""
    kafka = kafka_settings(settings)
    name = f"core-tables worker {socket.gethostname()} {os.getpid()}"
    connection = connect(settings.worker(), name=name)
    check_database(connection)
    topic = registered_topic(settings, connection)
    admin = admin_client(settings)
    check_topics(describe(admin, [topic.topic, topic.audit_topic]), topic)
    check = partial(check_again, admin, topic)
    pending_lists = cache(settings, connection)
    connection.close()
    queue = AuditQueue(worker_settings.audit_queue_size) if audit else None
    thread = None
    if queue is not None:
        tails = tail_consumer(kafka, kafka_log())
        ports = AuditPorts(
            open_producer=lambda transactional_id: audit_producer(kafka, transactional_id, kafka_log()),
            last_event_id=AuditTail(tails, topic.audit_topic).last_event_id,
            ledger_end=lambda partition: log_bounds(tails, topic.topic, partition)[1],
            audited=partial(_audited, settings.worker()),
            check_topics=check,
            for_each=in_threads,
            let_go=let_go_aside,
        )
        thread = AuditThread(queue, AuditEmitter(queue, topic.audit_topic, topic.first_lane, ports, log))
    dependencies = WorkerDependencies(
        consumer=ledger_consumer(kafka, kafka_log()),
        postgres=Session(partial(worker_store, settings.worker(), name)),
        cache=pending_lists,
        audit=queue,
        find_gaps=LogProbe(tail_consumer(kafka, kafka_log()), topic.topic).gaps,
        check_topics=check,
    )
    return Worker(topic, worker_settings, dependencies, log), thread


def worker_store(dsn: str, name: str) -> Store:
    """A worker's side of Postgres, on a connection of its own. Raises UnavailableError or SetupError."""
    connection = connect(dsn, name=name, lock_timeout_ms=5_000, transaction_timeout_ms=15_000, plans=PROBES)
    connection.autocommit = True
    return Store(connection)


def _audited(dsn: str, lane: int) -> int:
    """The audited watermark of a lane in Postgres now; asked on a connection of its own, since it is rarely asked."""
    connection = connect(dsn, name="core-tables audited")
    try:
        return Store(connection).lanes([lane])[lane].audited
    finally:
        connection.close()


def reader_of_topics(settings: Settings) -> Consumer:
    """A consumer that reads given offsets of both topics; it joins no group and commits nothing."""
    return tail_consumer(kafka_settings(settings), kafka_log())


def record_at(consumer: Consumer, topic: str, partition: int, offset: int) -> Message | None:
    """The record at an offset, or None if the log has none there."""
    consumer.assign([TopicPartition(topic, partition, offset)])
    deadline = time.monotonic() + REQUEST_TIMEOUT_S
    while time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is None:
            continue
        error = message.error()
        if error is None:
            return message if message.offset() == offset else None
        if error.code() in (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET):
            return None
        raise translate(error)
    raise UnavailableError(
        "kafka", f"partition {partition} of {topic} could not be read in time; see that the broker runs"
    )


def records_to_end(consumer: Consumer, topic: str, starts: Mapping[int, int]) -> Iterator[Message]:
    """The records of partitions from given offsets to the ends they have now."""
    consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in starts.items()])
    unfinished = set(starts)
    deadline = time.monotonic() + REQUEST_TIMEOUT_S
    while unfinished:
        for message in consumer.consume(1000, 0.2):
            error = message.error()
            if error is None:
                deadline = time.monotonic() + REQUEST_TIMEOUT_S
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                unfinished.discard(message.partition() or 0)
            else:
                raise translate(error)
        if time.monotonic() > deadline:
            raise UnavailableError("kafka", f"{topic} could not be read in time; see that the broker runs")


def positions(settings: Settings, connection: Connection) -> dict[int, LanePosition]:
    """The positions of the lanes of the settings' topic."""
    topic = registered_topic(settings, connection)
    return Store(connection).lanes(range(topic.first_lane, topic.first_lane + topic.partitions))


def verify_topic(settings: Settings, connection: Connection, progress: Callable[[int], None]) -> Report:
    """Compare ledger and outcomes with the fold of the topic, lane by lane, in one snapshot; `progress` counts records."""
    compared = 0
    differences: list[Difference] = []
    consumer = reader_of_topics(settings)
    with translated(), connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        topic, rows = registered_topic(settings, connection), rows_by_lane(connection)
        for lane, position in sorted(positions(settings, connection).items()):
            partition = lane - topic.first_lane
            bounds = log_bounds(consumer, topic.topic, partition)
            log = LaneLog(lane, event_id_at(topic.first_lane, 0), *bounds, position.applied, rows[lane])
            for count, found in verify_lane(
                connection, log, _records_between(consumer, topic, partition, log.log_start, position.applied)
            ):
                compared, differences = compared + count, differences + found
                progress(compared)
    consumer.close()
    broken = len({found.what.partition(":")[0] for found in differences if found.tenant_id is not None})
    return Report(compared, compared - broken, 0, compared, differences)


def _records_between(consumer: Consumer, topic: LedgerTopic, partition: int, start: int, end: int) -> Iterator[Record]:
    for message in _messages_between(consumer, topic, partition, start, end):
        position = event_id_at(topic.first_lane + partition, message.offset() or 0)
        content = read_content(position, message.key(), message.value(), partition, topic.partitions)
        yield Record(position, content, 0, None)


def _messages_between(
    consumer: Consumer, topic: LedgerTopic, partition: int, start: int, end: int
) -> Iterator[Message]:
    if start >= end:
        return
    for message in records_to_end(consumer, topic.topic, {partition: start}):
        offset = message.offset()
        if offset is None or offset >= end:
            return
        yield message


def count_records_below(settings: Settings, connection: Connection, lane: int, end: int) -> int | None:
    """How many records a lane's log has had below an offset, which is less than that if it has gaps; None if it cannot be told.

    Those that are gone from the topic are as many as the tables have rows: of them nobody else knows.
    """
    for topic in Store(connection).topics():
        if topic.first_lane <= lane < topic.first_lane + topic.partitions:
            consumer, partition = reader_of_topics(settings), lane - topic.first_lane
            try:
                start = log_bounds(consumer, topic.topic, partition)[0]
                gone = rows_between(connection, event_id_at(lane, 0), event_id_at(lane, start) - 1)
                return gone + sum(1 for _ in _messages_between(consumer, topic, partition, start, end))
            except CoreTablesError:
                return None
            finally:
                consumer.close()
    return None


def first_record(consumer: Consumer, topic: str, partition: int, start: int) -> Message | None:
    """The first record at or after an offset, or None: a log may end in a gap."""
    return next(records_to_end(consumer, topic, {partition: start}), None)
