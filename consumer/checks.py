"""What must be true before a worker folds, and while it does: topics and lanes are what the database says they are."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from core_tables.consumer.kafka import REQUEST_TIMEOUT_S, translate, translate_running
from core_tables.projection.store import LanePosition, TopicRow
from core_tables.schemas.reasons import LaneStoppedError, SetupError, UnavailableError

REQUIRED_SETTINGS: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
}
# What to do when a topic is gone, or not the one it was: its positions are the ids, so a new one is another ledger.
RESTORE: Final = (
    "restore it from a copy of the brokers' disks, or give the ledger a new topic (CORE_TABLES_TOPIC, CORE_TABLES_AUDIT_TOPIC, "
    "then `core-tables init`); docs/RELIABILITY.md, Backup"
)


class TopicFacts(NamedTuple):
    """What the broker says about a topic."""

    topic_id: str
    partitions: int
    settings: Mapping[str, str]


class ClusterFacts(NamedTuple):
    """What the broker says about itself and the topics asked for; a topic that does not exist is left out."""

    cluster_id: str
    topics: Mapping[str, TopicFacts]


def describe(admin: AdminClient, names: list[str]) -> ClusterFacts:
    """Ask the broker. Raises UnavailableError or SetupError."""
    try:
        cluster: Any = admin.describe_cluster(request_timeout=REQUEST_TIMEOUT_S).result()
        existing = admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        found = [name for name in names if name in existing]
        topics = {}
        described: Any = (
            admin.describe_topics(TopicCollection(found), request_timeout=REQUEST_TIMEOUT_S) if found else {}
        )
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in found]
        configs: Any = admin.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S) if found else {}
        settings = {
            resource.name: {name: entry.value for name, entry in future.result().items()}
            for resource, future in configs.items()
        }
        for name, future in described.items():
            topic = future.result()
            topics[name] = TopicFacts(str(topic.topic_id), len(topic.partitions), settings[name])
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:  # deleted between two of the questions
            raise UnavailableError(
                "kafka", f"a topic was deleted just now: {error.args[0].str()}; try again"
            ) from error
        raise translate(error) from error
    return ClusterFacts(cluster.cluster_id, topics)


def check_settings(facts: ClusterFacts, name: str) -> TopicFacts:
    """The facts of a topic that exists and keeps its records for ever. Raises SetupError."""
    topic = facts.topics.get(name)
    if topic is None:
        raise SetupError(f"the topic {name} does not exist, though the database knows it; {RESTORE}", "topic")
    for setting, required in REQUIRED_SETTINGS.items():
        if topic.settings.get(setting) != required:
            raise SetupError(
                f"the topic {name} has {setting}={topic.settings.get(setting)}, but {required} is needed, or records are "
                f"lost; set it with `kafka-configs --alter --topic {name} --add-config {setting}={required}`",
                "topic",
            )
    return topic


def check_topics(facts: ClusterFacts, row: TopicRow) -> None:
    """Compare the broker's topics and their settings with the row that the lanes were made for. Raises SetupError."""
    for name in (row.topic, row.audit_topic):
        check_settings(facts, name)
    check_identity(facts, row)


def check_again(admin: AdminClient, row: TopicRow) -> None:
    """The same of a running worker, but for the settings: to stop would not keep the records that they let go.

    Raises UnavailableError where a topic is not there just now: if it comes back as another, the next check says so.
    """
    facts = describe(admin, [row.topic, row.audit_topic])
    for name in (row.topic, row.audit_topic):
        if name not in facts.topics:
            raise UnavailableError("kafka", f"the topic {name} does not exist any more; {RESTORE}")
    check_identity(facts, row)


def check_identity(facts: ClusterFacts, row: TopicRow) -> None:
    """Compare cluster id, topic ids and partition counts of topics that exist. Raises SetupError."""
    if facts.cluster_id != row.cluster_id:
        raise SetupError(
            f"this broker is cluster {facts.cluster_id}, but the database was filled from {row.cluster_id}; "
            "set CORE_TABLES_BOOTSTRAP_SERVERS to that cluster, or give the ledger a new topic (`core-tables init`)",
            "topic",
        )
    for name, topic_id in ((row.topic, row.topic_id), (row.audit_topic, row.audit_topic_id)):
        topic = facts.topics[name]
        if topic.topic_id != topic_id:
            raise SetupError(
                f"the topic {name} was deleted and made again (id {topic.topic_id}, the database knows {topic_id}); {RESTORE}",
                "topic",
            )
        if topic.partitions != row.partitions:
            raise SetupError(
                f"the topic {name} has {topic.partitions} partitions, but {row.partitions} are expected and never change; "
                f"{RESTORE}",
                "topic",
            )


def defect(where: str, error: Exception) -> LaneStoppedError:
    """The error of a lane where we are wrong: nothing of the record is skipped."""
    return LaneStoppedError(
        f"{where}: {error!r}; this is a defect and nothing was skipped: report it with the lines before this one, install a "
        "release without it, then start `core-tables worker` again"
    )


def no_row(lane: int) -> SetupError:
    """The error of a lane that the database ought to know; `init` makes lanes with their topic only."""
    return SetupError(
        f"lane {lane} has no row in os_core.lanes, though its topic is known; restore Postgres from a copy, an older one will do "
        "(docs/RELIABILITY.md, Backup)",
        "database",
    )


def check_log(position: LanePosition, start: int, log_start: int, log_end: int) -> None:
    """The records from `start` on must be in the log. Raises LaneStoppedError."""
    if log_start > start:
        raise LaneStoppedError(
            f"lane {position.lane}: the log begins at offset {log_start}, but records from {start} on are needed; "
            "they were deleted: restore the topic from a copy of the brokers' disks (docs/RELIABILITY.md, Backup)"
        )
    if log_end < position.applied:
        raise LaneStoppedError(
            f"lane {position.lane}: the log ends at offset {log_end}, but {position.applied} records were folded; "
            "the topic lost records: restore it from a copy of the brokers' disks (docs/RELIABILITY.md, Backup)"
        )


def log_bounds(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    """The log's first offset and the one after its last. Raises UnavailableError or SetupError."""
    try:
        low, high = consumer.get_watermark_offsets(
            TopicPartition(topic, partition), timeout=REQUEST_TIMEOUT_S, cached=False
        )
    except KafkaException as error:
        raise translate_running(error) from error
    return low, high
