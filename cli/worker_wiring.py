"""Builds a worker from the settings; wiring.py has what other commands need, which is imported sooner."""

import os
import socket
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from core_tables.cli.wiring import cache, positions, registered_topic
from core_tables.consumer.audit_emitter import AuditEmitter, AuditPorts
from core_tables.consumer.audit_queue import AuditQueue
from core_tables.consumer.audit_thread import AuditThread, for_each_in_threads, release_in_background
from core_tables.consumer.dependencies import Traced, WorkerDependencies
from core_tables.consumer.sessions import Session, Sessions, SessionsOfLanes
from core_tables.consumer.worker import Worker
from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.kafka.clients import (
    admin_client,
    audit_producer,
    ledger_consumer,
    partition_consumer,
    tail_group,
)
from core_tables.kafka.current_ends import AskedEnds
from core_tables.kafka.errors import translate_running
from core_tables.kafka.group import worker_client_id
from core_tables.kafka.log import TopicReader, ask_ends, log_bounds, log_ends
from core_tables.kafka.lost_clients import RenewedAdmin, WatchedClients
from core_tables.kafka.rights import Program, check_rights, rights_of
from core_tables.kafka.tail import AuditTail, LogProbe
from core_tables.kafka.tokens import with_logged_tokens
from core_tables.kafka.topics import check_again, check_topics, describe_topics
from core_tables.producer.waiter import answers_of
from core_tables.projection.postgres.connection import PROBES, Connection, CurrentDsn, connect
from core_tables.projection.postgres.lanes import ledger_topics, only_these_lanes
from core_tables.projection.postgres.migrate import check_database
from core_tables.projection.postgres.registrations import check_registered
from core_tables.projection.postgres.store import Store
from core_tables.settings.environment import Settings
from core_tables.settings.lane_map import check_groups


def worker(
    settings: Settings, worker_settings: WorkerSettings, *, audit: bool, log: Any, traced: Traced | None = None
) -> tuple[Worker, AuditThread | None]:
    """A worker and its audit thread, after the checks at startup. Raises SetupError or UnavailableError."""
    kafka = with_logged_tokens(settings.kafka_settings(), log)
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
