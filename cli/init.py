"""`init`: creates topics, tables, roles and lanes, or checks those that exist."""

import time
from collections.abc import Sequence
from functools import partial
from typing import IO, Final

import click
from confluent_kafka.admin import AdminClient

from core_tables.cli import output
from core_tables.cli.schemas import CopiedSchema, read_copy, registrations_of
from core_tables.kafka.clients import admin_client
from core_tables.kafka.log import log_ends
from core_tables.kafka.topics import ClusterFacts, check_topics, create_topics, describe_topics, lost_topic
from core_tables.projection.postgres.connection import connect
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.lanes import ledger_topics
from core_tables.projection.postgres.migrate import migrate, register_topic
from core_tables.projection.postgres.registrations import NewSchema, register_schemas
from core_tables.schemas.reasons import SetupError, UnavailableError
from core_tables.schemas.topic import LedgerTopic
from core_tables.settings.environment import Settings

_LEADERS_TIMEOUT_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.1


@click.command(epilog=output.EXIT_CODES)
@click.option(
    "--schemas",
    "copy",
    type=click.File("rb"),
    help="A copy of the registered schemas, as `core-tables schemas --json` prints it; for a database that was lost or restored.",
)
def init(copy: IO[bytes] | None) -> None:
    """Create the topics, tables, roles and lanes that are missing.

    It also registers the writer schemas of this release. Run it before the first worker, and again before the workers and
    producers of another release. It changes nothing that exists, and refuses topics whose settings could lose records.
    """
    done = initialize(Settings(), [] if copy is None else read_copy(copy))
    for line in done:
        output.out.print(line, markup=False)
    output.out.print(
        "ready; next: core-tables worker" if done else "nothing to do: topics, tables, roles and lanes exist"
    )


def initialize(settings: Settings, copy: Sequence[CopiedSchema] = ()) -> list[str]:
    """Create topics, migrate, register lanes and schemas; return what was done. Raises SetupError or UnavailableError."""
    admin = admin_client(settings.kafka_settings())
    names = [settings.topic, settings.audit_topic]
    present = describe_topics(admin, names)
    connection = connect(settings.admin, name="core-tables init", statement_timeout_ms=600_000)
    done = migrate(connection)
    known = ledger_topics(connection)
    _refuse_lost_topics(present, names, known)
    created = create_topics(admin, names, settings.partitions, settings.replication, settings.topic)
    done += [f"created the topic {name}" for name in created]
    facts = describe_topics(admin, names)
    row = _topic_row(settings, facts, known)
    check_topics(facts, row)
    copied = registrations_of(copy, row)
    with translated(), connection.transaction():  # together: a lane without a schema would refuse every record
        if register_topic(connection, row):
            done.append(f"created {row.partitions} lanes for {row.topic}")
        new = register_schemas(connection, row, partial(_log_ends, admin, row), copied)
    return done + [_registered(schema, row.topic) for schema in new]


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
