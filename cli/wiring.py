"""Builds the parts of the command from its settings; the only place that opens connections for it."""

import contextlib
import os
import socket
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Final

from confluent_kafka.admin import AdminClient

from core_tables.consumer.audit_emitter import AuditEmitter, AuditPorts
from core_tables.consumer.audit_queue import AuditQueue
from core_tables.consumer.audit_thread import AuditThread, for_each_in_threads, release_in_background
from core_tables.consumer.dependencies import Traced, WorkerDependencies
from core_tables.consumer.lane_status import KnownLanes, LedgerStatus, ledger_status
from core_tables.consumer.sessions import Session, Sessions, SessionsOfLanes
from core_tables.consumer.worker import Worker
from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.kafka.clients import (
    admin_client,
    audit_producer,
    ledger_consumer,
    no_log,
    partition_consumer,
    tail_group,
)
from core_tables.kafka.current_ends import AskedEnds, CurrentEnds
from core_tables.kafka.errors import translate_running
from core_tables.kafka.group import worker_client_id
from core_tables.kafka.log import TopicReader, ask_ends, log_bounds, log_ends
from core_tables.kafka.lost_clients import RenewedAdmin, WatchedClients
from core_tables.kafka.rights import Program, check_rights, rights_of
from core_tables.kafka.tail import AuditTail, LogProbe
from core_tables.kafka.topics import check_again, check_topics, describe_topics
from core_tables.producer import Ledger, LedgerSettings
from core_tables.producer.connected_reads import DsnOfLanes, connect_reads, connect_scheduler
from core_tables.producer.waiter import answers_of
from core_tables.projection.cache.pending_cache import TIMEOUT_S, PendingCache, connect_cache
from core_tables.projection.postgres.connection import PROBES, Connection, CurrentDsn, connect
from core_tables.projection.postgres.lanes import (
    LanePosition,
    lane_positions,
    lane_stops,
    ledger_topics,
    only_these_lanes,
    topic_named,
    unknown_lane,
)
from core_tables.projection.postgres.migrate import check_database
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.postgres.registrations import check_registered
from core_tables.projection.postgres.store import Store
from core_tables.projection.verify.facts import check_role
from core_tables.schemas.reasons import UnavailableError
from core_tables.schemas.topic import LedgerTopic
from core_tables.settings.environment import Settings
from core_tables.settings.lane_map import check_groups

READS: Final = "core-tables reads"  # the name of these connections
LOOK_TIMEOUT_MS: Final = 15_000  # of a statement that shows how things are: who looks again is not to wait longer
SCRAPE_TIMEOUT_S: Final = 2.0  # of each of two requests; Prometheus waits ten seconds for all


def cache(settings: Settings, connection: Connection, timeout_s: float = TIMEOUT_S) -> PendingCache | None:
    """The cache of the ledger, or None if none is set. The connection is asked for the id of the topic."""
    return None if settings.cache() is None else cache_of(settings, registered_topic(settings, connection), timeout_s)


def cache_of(settings: Settings, topic: LedgerTopic, timeout_s: float = TIMEOUT_S) -> PendingCache | None:
    """The cache of a topic, or None if none is set."""
    url = settings.current_cache()
    return None if url is None else PendingCache(connect_cache(url, timeout_s), topic.topic_id)


def _readers(settings: Settings) -> list[DsnOfLanes]:
    return [(database.lanes, database.reader) for database in settings.databases()]


def reads(settings: Settings) -> Reads:
    """Reads, as the role of a reader."""
    return connect_reads(
        _readers(settings),
        READS,
        pooled=settings.reader_pooled,
        topic=settings.topic,
        redis_url=settings.current_cache(),
    )


def reads_of_tables(settings: Settings) -> Reads:
    """The reads without the cache."""
    return connect_reads(_readers(settings), READS, pooled=settings.reader_pooled)


def scheduler_reads(settings: Settings) -> Reads:
    """The reads as the role of a scheduler, which can ask for the tenants that have something due, and for nothing else."""
    return connect_scheduler([(database.lanes, database.scheduler) for database in settings.databases()])


def ledger(settings: Settings) -> Ledger:
    """A ledger to append to, which can also wait for outcomes."""
    return Ledger.connect(LedgerSettings.of(settings), log=no_log())


def operator(database: Settings, statement_timeout_ms: int = 600_000) -> Connection:
    """A connection to a database as the role of an operator: it sees every tenant and changes nothing."""
    connection = connect(database.operator, name="core-tables operator", statement_timeout_ms=statement_timeout_ms)
    return connection if database.lanes is None else only_these_lanes(connection, database.lanes)


def operators(settings: Settings) -> list[Connection]:
    """A connection to each database of the ledger, as an operator: a reader would find nothing. Raises SetupError."""
    connections = [operator(database) for database in settings.databases()]
    for connection in connections:
        check_role(connection, writes=False)
    return connections


def registered_topic(settings: Settings, connection: Connection) -> LedgerTopic:
    """The row of the topic that the settings name. Raises SetupError."""
    return topic_named(ledger_topics(connection), settings.topic)


def worker(
    settings: Settings, worker_settings: WorkerSettings, *, audit: bool, log: Any, traced: Traced | None = None
) -> tuple[Worker, AuditThread | None]:
    """A worker and its audit thread, after the checks at startup. Raises SetupError or UnavailableError."""
    kafka = settings.kafka_settings()
    name = f"core-tables worker {socket.gethostname()} {os.getpid()}"
    databases = settings.databases()
    # Those that do not answer now are waited for while the lanes of the others are folded.
    connection, *others = answers_of([partial(_worker_connection, settings, database, name) for database in databases])
    for other in others:
        other.close()
    topic = registered_topic(settings, connection)
    admin = RenewedAdmin(kafka)
    program: Program = "worker" if audit else "worker-no-audit"
    check_rights(admin.client, rights_of(program, topic.topic, topic.audit_topic, kafka.group_id))
    check_topics(describe_topics(admin.client, [topic.topic, topic.audit_topic]), topic)
    check = partial(admin.ask, partial(check_again, row=topic))
    pending_lists = cache(settings, connection)
    connection.close()
    queue = AuditQueue(worker_settings.audit_queue_size) if audit else None
    thread = None
    consumer = ledger_consumer(kafka, worker_settings.batch_size, worker_client_id())
    probing = partition_consumer(kafka)
    clients = [consumer, probing]
    if queue is not None:
        shared = partition_consumer(kafka)
        clients.append(shared)
        tail = AuditTail(
            TopicReader(shared, topic.audit_topic, tail_group(kafka), translate_running),
            lambda partition: log_ends(admin.client, topic.audit_topic, [partition])[partition],
        )
        ports = AuditPorts(
            open_producer=partial(audit_producer, kafka),
            last_event_id=tail.last_event_id,
            ledger_end=lambda partition: log_bounds(shared, topic.topic, partition)[1],
            audited=partial(_audited, _sessions(databases, name, was_open=True)),
            check_topics=check,
            for_each=for_each_in_threads,
            release=release_in_background,
        )
        thread = AuditThread(queue, AuditEmitter(queue, topic.audit_topic, topic.first_lane, ports, log), log)
    dependencies = WorkerDependencies(
        consumer=consumer,
        postgres=_sessions(databases, name),
        cache=pending_lists,
        audit=queue,
        find_gaps=LogProbe(TopicReader(probing, topic.topic, tail_group(kafka), translate_running)).gaps,
        check_topics=check,
        check_clients=WatchedClients(clients, topic.topic, partial(admin_client, kafka)).check,
        ends=AskedEnds(lambda: ask_ends(admin.client, topic.topic, range(topic.partitions)), time.monotonic),
        name=worker_client_id(),
        traced=traced,
    )
    return Worker(topic, worker_settings, dependencies, log), thread


def _worker_connection(settings: Settings, database: Settings, name: str) -> Connection:
    """A connection to a database that a worker can work with. Raises SetupError or UnavailableError."""
    connection = connect(database.worker, name=name)
    check_database(connection)
    registered_topic(settings, connection)
    if database.lanes is not None:
        check_groups(settings.lane_groups(), ledger_topics(only_these_lanes(connection, database.lanes)))
    for position in positions(settings, connection).values():
        check_registered(position.lane, position.schemas)
    return connection


def _sessions(databases: Sequence[Settings], name: str, *, was_open: bool = False) -> Sessions:
    sessions: list[tuple[Collection[int], Session]] = []
    for database in databases:
        opened = partial(worker_store, database.worker, name, database.lanes)
        sessions.append((database.lanes or (), Session(opened, was_open=was_open, rests=len(databases) > 1)))
    (_, first), *others = sessions
    return SessionsOfLanes(sessions) if others else first


def worker_store(dsn: CurrentDsn, name: str, lanes: Collection[int] | None = None) -> Store:
    """The store of a worker, on a connection of its own. `lanes`: those that the database must have, if it is one of several.

    Raises UnavailableError or SetupError.
    """
    connection = connect(dsn, name=name, lock_timeout_ms=5_000, transaction_timeout_ms=15_000, plans=PROBES)
    connection.autocommit = True
    if lanes is not None:
        check_database(only_these_lanes(connection, lanes))
    return Store(connection)


def _audited(sessions: Sessions, lane: int) -> int:
    """The audited watermark of a lane in Postgres now. It is rarely needed, so no connection is kept."""
    session = sessions.of_lane(lane)
    try:
        return session.store().lanes([lane])[lane].audited
    finally:
        session.close()


def topic_reader(settings: Settings, topic: str) -> TopicReader:
    """A reader of one of the topics; it joins no group and commits nothing."""
    kafka = settings.kafka_settings()
    return TopicReader(partition_consumer(kafka), topic, tail_group(kafka))


def current_ends(settings: Settings, topic: LedgerTopic, timeout_s: float = SCRAPE_TIMEOUT_S) -> CurrentEnds:
    """The ends of the logs of a topic, asked for by a client of its own: the metrics are another thread's."""
    admin = RenewedAdmin(settings.kafka_settings())
    ends = partial(log_ends, topic=topic.topic, partitions=range(topic.partitions), timeout_s=timeout_s)
    return CurrentEnds(partial(admin.ask, ends))


def positions(settings: Settings, connection: Connection) -> dict[int, LanePosition]:
    """The positions of the lanes of the topic that the settings name."""
    topic = registered_topic(settings, connection)
    return lane_positions(connection, range(topic.first_lane, topic.first_lane + topic.partitions))


def known_topic(settings: Settings) -> LedgerTopic:
    """The row of the topic that the settings name, as the first database has it that answers."""
    *others, last = settings.databases()
    for database in others:
        with (
            contextlib.suppress(UnavailableError),
            contextlib.closing(operator(database, LOOK_TIMEOUT_MS)) as connection,
        ):
            return registered_topic(settings, connection)
    with contextlib.closing(operator(last, LOOK_TIMEOUT_MS)) as connection:
        return registered_topic(settings, connection)


def database_of(settings: Settings, lane: int) -> Settings:
    """The settings of the database that has a lane. Raises SetupError if none has."""
    for database in settings.databases():
        if database.lanes is None or lane in database.lanes:
            return database
    raise unknown_lane(lane)


def status_now(settings: Settings, admin: AdminClient) -> LedgerStatus:
    """How far the lanes of the topic are that the settings name. Raises UnavailableError if no database answers."""
    known: list[KnownLanes] = []
    unanswered: list[str] = []
    topic, failed = None, None
    for database in settings.databases():
        try:
            with contextlib.closing(operator(database, LOOK_TIMEOUT_MS)) as connection:
                topic = registered_topic(settings, connection)
                known.append(KnownLanes(positions(settings, connection), lane_stops(connection)))
        except UnavailableError as error:
            unanswered.append(f"{error.message}{database.place}")
            failed = error
    if topic is None:
        assert failed is not None, "a database answers or does not"  # noqa: S101
        raise failed
    return ledger_status(
        topic,
        known,
        unanswered,
        admin,
        settings.group_id,
        partial(topic_reader, settings, topic.topic),
    )
