"""`init`: creates topics, tables, roles and lanes, or checks those that exist."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO, Final, NamedTuple

import click
from confluent_kafka.admin import AdminClient

from core_tables.cli import output
from core_tables.cli.schemas import CopiedSchema, read_copy, registrations_of
from core_tables.kafka.clients import admin_client
from core_tables.kafka.log import log_ends
from core_tables.kafka.topics import ClusterFacts, check_topics, create_topics, describe_topics, lost_topic
from core_tables.projection.postgres.connection import Connection, connect
from core_tables.projection.postgres.keys import Registration
from core_tables.projection.postgres.lanes import ledger_topics, only_these_lanes
from core_tables.projection.postgres.migrate import migrate, of_one_copy, register_topic
from core_tables.projection.postgres.registrations import NewSchema, Offsets, register_schemas
from core_tables.schemas.reasons import SetupError, UnavailableError
from core_tables.schemas.topic import LedgerTopic
from core_tables.settings.environment import Settings
from core_tables.settings.lane_map import LANE_MAP, check_groups

_LEADERS_TIMEOUT_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.1


@click.command(epilog=output.EXIT_CODES)
@click.option(
    "--schemas",
    "copy",
    type=click.File("rb"),
    help="A copy of the registered schemas, as `core-tables schemas --json` prints it; for a database that was lost or restored.",
)
@click.option(
    "--lost",
    is_flag=True,
    help="Of several databases (CORE_TABLES_POSTGRES_LANES), one was lost: workers fill an empty one in its place.",
)
def init(copy: IO[bytes] | None, lost: bool) -> None:
    """Create the topics, tables, roles and lanes that are missing.

    It also registers the writer schemas of this release. Run it before the first worker, and again before the workers and
    producers of another release. It changes nothing that exists, and refuses topics whose settings could lose records.
    """
    done = initialize(Settings(), [] if copy is None else read_copy(copy), lost=lost)
    for line in done:
        output.out.print(line, markup=False)
    output.out.print(
        "ready; next: core-tables worker" if done else "nothing to do: topics, tables, roles and lanes exist"
    )


class _Database(NamedTuple):
    """A database of the ledger: its settings, an administrator's connection, and the topics that it has."""

    settings: Settings
    connection: Connection
    topics: list[LedgerTopic]


def initialize(settings: Settings, copy: Sequence[CopiedSchema] = (), *, lost: bool = False) -> list[str]:
    """Create topics, migrate, register lanes and schemas; return what was done. Raises SetupError or UnavailableError.

    `lost`: one of several databases is empty because it was lost.
    """
    admin = admin_client(settings.kafka_settings())
    names = [settings.topic, settings.audit_topic]
    present = describe_topics(admin, names)
    done: list[str] = []
    databases = [_migrated(database, done) for database in settings.databases()]
    known = sorted({topic.topic: topic for database in databases for topic in database.topics}.values())
    _refuse_lost_topics(present, names, known)
    created = create_topics(admin, names, settings.partitions, settings.replication, settings.topic)
    done += [f"created the topic {name}" for name in created]
    facts = describe_topics(admin, names)
    row = _topic_row(settings, facts, known)
    check_topics(facts, row)
    copied, ends = registrations_of(copy, row), partial(_log_ends, admin, row)
    check_groups(
        settings.lane_groups(), [*(topic for topic in known if topic != row), row] if len(databases) > 1 else []
    )
    for database in databases:
        if known and not database.topics and not lost:
            _refuse_to_fill(database, ends())
        done += _registered_in(database, row, copied, ends)
    return done


def _migrated(database: Settings, done: list[str]) -> _Database:
    connection = connect(database.admin, name="core-tables init", statement_timeout_ms=600_000)
    done += [f"{step}{database.place}" for step in migrate(connection)]
    topics = ledger_topics(connection)
    if database.lanes is not None and topics:
        only_these_lanes(connection, database.lanes)
    return _Database(database, connection, topics)


def _registered_in(
    database: _Database, topic: LedgerTopic, copy: Sequence[Registration], ends: Callable[[], Offsets]
) -> list[str]:
    """Register the lanes of a database, and their schemas; return what was done."""
    all_lanes, held = range(topic.first_lane, topic.first_lane + topic.partitions), database.settings.lanes
    lanes = [lane for lane in all_lanes if held is None or lane in held]
    copied = [registration for registration in copy if held is None or registration.lane in held]
    connection, done = database.connection, []
    with of_one_copy(), connection.transaction():  # together: a lane without a schema would refuse every record
        if register_topic(connection, topic, lanes):
            done.append(f"created {len(lanes)} lanes for {topic.topic}{database.settings.place}")
        new = register_schemas(connection, lanes, ends, copied)
    if held is not None:
        only_these_lanes(connection, held)
    return done + [f"{_registered(schema, topic.topic)}{database.settings.place}" for schema in new]


def _refuse_to_fill(database: _Database, ends: Offsets) -> None:
    """An empty database among others that are not: it is new, was lost, or is not the one that has these lanes."""
    held = database.settings.lanes or frozenset()
    if any(end for lane, end in ends.items() if lane in held):
        raise SetupError(
            f"the database{database.settings.place} is empty, but their logs hold records, and other databases know the ledger; "
            f"check {LANE_MAP}; if the database was lost, run `core-tables init --lost`: workers then fill it from the topic",
            "database",
        )


def _log_ends(admin: AdminClient, topic: LedgerTopic) -> dict[int, int]:
    """By lane, the end of the log; waits for the leaders of a topic that was just created.

    Raises UnavailableError or SetupError.
    """
    deadline = time.monotonic() + _LEADERS_TIMEOUT_S
    while True:
        try:
            ends = log_ends(admin, topic.topic, range(topic.partitions))
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_EVERY_S)
        else:
            return {topic.first_lane + partition: end.high for partition, end in ends.items()}


def _registered(schema: NewSchema, topic: str) -> str:
    since = {
        "beginning": "the beginning of their logs",
        "end": "the end of their logs",
        "copy": "the offsets of the copy",
        "unknown": (
            "the beginning of their logs; these hold records already, and no copy says since when it was registered (--schemas), "
            "so records that were written with it before that are decided otherwise than they were"
        ),
    }
    return f"registered the writer schema {schema.fingerprint} for {schema.lanes} lanes of {topic}, from {since[schema.since]}"


def _refuse_lost_topics(present: ClusterFacts, asked: list[str], known: list[LedgerTopic]) -> None:
    """A topic that the database knows is never created again: its offsets are the ids, so it would be another ledger."""
    for row in known:
        for name in {row.topic, row.audit_topic}.intersection(asked) - present.topics.keys():
            raise lost_topic(name)


def _topic_row(settings: Settings, facts: ClusterFacts, known: list[LedgerTopic]) -> LedgerTopic:
    """The row of the topic: the one the database has, or a new one whose lanes continue after the last."""
    for row in known:
        if row.topic == settings.topic:
            return row
    for name in (settings.topic, settings.audit_topic):
        if facts.topics[name].partitions != settings.partitions:
            raise SetupError(
                f"the topic {name} has {facts.topics[name].partitions} partitions, but {settings.partitions} are configured; "
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
