"""`init`: creates topics, tables, roles and lanes, or checks those that exist."""

import click

from core_tables.cli import output
from core_tables.cli.environment import Settings
from core_tables.kafka.clients import admin_client
from core_tables.kafka.topics import ClusterFacts, check_topics, create_topics, describe_topics, lost_topic
from core_tables.projection.postgres.connection import connect
from core_tables.projection.postgres.lanes import ledger_topics
from core_tables.projection.postgres.migrate import migrate, register_topic
from core_tables.schemas.reasons import SetupError
from core_tables.schemas.topic import LedgerTopic


@click.command(epilog=output.EXIT_CODES)
def init() -> None:
    """Create the topics, tables, roles and lanes that are missing.

    Run it before the first worker, and again after an upgrade. It changes nothing that exists, and refuses topics whose
    settings could lose records.
    """
    done = initialize(Settings())
    for line in done:
        output.out.print(line, markup=False)
    output.out.print(
        "ready; next: core-tables worker" if done else "nothing to do: topics, tables, roles and lanes exist"
    )


def initialize(settings: Settings) -> list[str]:
    """Create topics, migrate, register the lanes; return what was done. Raises SetupError or UnavailableError."""
    admin = admin_client(settings.kafka_settings())
    names = [settings.topic, settings.audit_topic]
    present = describe_topics(admin, names)
    connection = connect(settings.admin(), name="core-tables init")
    done = [f"applied the migration {name}" for name in migrate(connection)]
    known = ledger_topics(connection)
    _refuse_lost_topics(present, names, known)
    done += [
        f"created the topic {name}" for name in create_topics(admin, names, settings.partitions, settings.replication)
    ]
    facts = describe_topics(admin, names)
    row = _topic_row(settings, facts, known)
    check_topics(facts, row)
    if register_topic(connection, row):
        done.append(f"created {row.partitions} lanes for {row.topic}")
    return done


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
