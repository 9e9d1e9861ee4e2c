"""The topics that the design needs: one partition count for both, and no record ever deleted."""

import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]

from core_tables.kafka.clients import REQUEST_TIMEOUT_S
from core_tables.kafka.errors import translate
from core_tables.schemas.reasons import SetupError, UnavailableError
from core_tables.schemas.topic import LedgerTopic

TOPIC_SETTINGS: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "message.timestamp.type": "CreateTime",
}
TIMEOUT_S: Final = 15.0
PAUSE_S: Final = 0.05


def create_topics(admin: AdminClient, names: list[str], partitions: int, replication: int) -> list[str]:
    """Create those of the topics that do not exist, and wait until the broker shows them; return their names.

    Raises UnavailableError or SetupError.
    """
    settings: Any = dict(TOPIC_SETTINGS)
    wanted = [NewTopic(name, partitions, replication, config=settings) for name in names]
    created = []
    for name, future in admin.create_topics(wanted, request_timeout=TIMEOUT_S).items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            _raise_unless_it_exists(name, error)
    _wait_until_shown(admin, created)
    return created


def _wait_until_shown(admin: AdminClient, names: list[str]) -> None:
    """Metadata follows the controller with a delay: a topic that was made may be unknown for a moment."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        shown = admin.list_topics(timeout=TIMEOUT_S).topics if names else {}
        missing = [name for name in names if name not in shown or not shown[name].partitions]
        if not missing:
            return
        if time.monotonic() > deadline:
            raise UnavailableError(
                "kafka", f"the topic {missing[0]} was made, but the broker does not show it yet; try again"
            )
        time.sleep(PAUSE_S)


def _raise_unless_it_exists(name: str, error: KafkaException) -> None:
    cause: KafkaError = error.args[0]
    if cause.code() == KafkaError.TOPIC_ALREADY_EXISTS:
        return
    if cause.retriable() or cause.code() in (
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
    ):
        raise UnavailableError("kafka", f"Kafka does not answer: {cause.str()}; see that the broker runs") from error
    raise SetupError(
        f"the topic {name} could not be created: {cause.str()}; see that there are as many brokers as CORE_TABLES_REPLICATION "
        "says, and that this user may create topics",
        "topic",
    ) from error


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


def check_topics(facts: ClusterFacts, row: LedgerTopic) -> None:
    """Compare the broker's topics and their settings with the row that the lanes were made for. Raises SetupError."""
    for name in (row.topic, row.audit_topic):
        check_settings(facts, name)
    check_identity(facts, row)


def check_again(admin: AdminClient, row: LedgerTopic) -> None:
    """The same of a running worker, but for the settings: to stop would not keep the records that they let go.

    Raises UnavailableError where a topic is not there just now: if it comes back as another, the next check says so.
    """
    facts = describe(admin, [row.topic, row.audit_topic])
    for name in (row.topic, row.audit_topic):
        if name not in facts.topics:
            raise UnavailableError("kafka", f"the topic {name} does not exist any more; {RESTORE}")
    check_identity(facts, row)


def check_identity(facts: ClusterFacts, row: LedgerTopic) -> None:
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
