"""Builds the parts of the command from its settings; worker_wiring.py builds the worker.

A command that reads one row starts twice as fast without the clients of Kafka and Redis, so these are imported by the functions
that need them.
"""

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final

from core_tables.producer.connected_reads import DsnOfLanes, connect_reads, connect_scheduler
from core_tables.projection.postgres.connection import IN_ORDER, Connection, connect
from core_tables.projection.postgres.lanes import (
    LanePosition,
    lane_positions,
    lane_stops,
    ledger_topics,
    only_these_lanes,
    topic_named,
    unknown_lane,
)
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.verify.facts import check_role
from core_tables.schemas.reasons import UnavailableError
from core_tables.schemas.topic import LedgerTopic
from core_tables.settings.environment import Settings

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from core_tables.consumer.lane_status import LedgerStatus
    from core_tables.kafka.current_ends import CurrentEnds
    from core_tables.kafka.log import TopicReader
    from core_tables.producer.ledger import Ledger
    from core_tables.projection.cache.pending_cache import PendingCache

READS: Final = "core-tables reads"  # the name of these connections
LOOK_TIMEOUT_MS: Final = 15_000  # of a statement that shows how things are: who looks again is not to wait longer
SCRAPE_TIMEOUT_S: Final = 2.0  # of each of two requests; Prometheus waits ten seconds for all


def cache(settings: Settings, connection: Connection, timeout_s: float | None = None) -> "PendingCache | None":
    """The cache of the ledger, or None if none is set. The connection is asked for the id of the topic."""
    return None if settings.cache() is None else cache_of(settings, registered_topic(settings, connection), timeout_s)


def cache_of(settings: Settings, topic: LedgerTopic, timeout_s: float | None = None) -> "PendingCache | None":
    """The cache of a topic, or None if none is set."""
    from core_tables.projection.cache.pending_cache import TIMEOUT_S, PendingCache, connect_cache

    url = settings.current_cache()
    return None if url is None else PendingCache(connect_cache(url, timeout_s or TIMEOUT_S), topic.topic_id)


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


def ledger(settings: Settings) -> "Ledger":
    """A ledger to append to, which can also wait for outcomes."""
    from core_tables.kafka.clients import no_log
    from core_tables.producer.ledger import Ledger
    from core_tables.producer.ledger_settings import LedgerSettings

    return Ledger.connect(LedgerSettings.of(settings), log=no_log())


def operator(database: Settings, statement_timeout_ms: int = 600_000) -> Connection:
    """A connection to a database as the role of an operator: it sees every tenant and changes nothing."""
    name = "core-tables operator"
    connection = connect(database.operator, name=name, statement_timeout_ms=statement_timeout_ms, plans=IN_ORDER)
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


def topic_reader(settings: Settings, topic: str) -> "TopicReader":
    """A reader of one of the topics; it joins no group and commits nothing."""
    from core_tables.kafka.clients import partition_consumer, tail_group
    from core_tables.kafka.log import TopicReader

    kafka = settings.kafka_settings()
    return TopicReader(partition_consumer(kafka), topic, tail_group(kafka))


def current_ends(settings: Settings, topic: LedgerTopic, timeout_s: float = SCRAPE_TIMEOUT_S) -> "CurrentEnds":
    """The ends of the logs of a topic, asked for by a client of its own: the metrics are another thread's."""
    from core_tables.kafka.current_ends import CurrentEnds
    from core_tables.kafka.log import log_ends
    from core_tables.kafka.lost_clients import RenewedAdmin

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


def status_now(settings: Settings, admin: "AdminClient") -> "LedgerStatus":
    """How far the lanes of the topic are that the settings name. Raises UnavailableError if no database answers."""
    from core_tables.consumer.lane_status import KnownLanes, ledger_status

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
