"""The two topics of a ledger: creating them, and checking their identity and settings."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]

from core_tables.kafka.clients import REQUEST_TIMEOUT_S
from core_tables.kafka.errors import (
    RESTORE_TOPIC,
    Translate,
    translate_creation,
    translate_kafka,
    translate_running,
)
from core_tables.kafka.reported import answered_within, hearing
from core_tables.schemas.reasons import SetupError, UnavailableError
from core_tables.schemas.topic import LedgerTopic


class TopicSetting(NamedTuple):
    """A setting of the topics that `init` creates. A `required` one is also checked whenever a worker starts."""

    value: str
    required: bool


TOPIC_SETTINGS: Final[Mapping[str, TopicSetting]] = {
    "cleanup.policy": TopicSetting("delete", required=True),
    "retention.ms": TopicSetting("-1", required=True),
    "retention.bytes": TopicSetting("-1", required=True),
    # Otherwise a replica that missed acknowledged records may become the leader, and they are gone.
    "unclean.leader.election.enable": TopicSetting("false", required=True),
    "message.timestamp.type": TopicSetting("CreateTime", required=False),
}
# Of the ledger topic, which other programs write to. The broker stores batches unpacked, and refuses those that are larger than
# this then: however small a batch is made, it takes no more than that of the memory of those who read it.
LEDGER_COMPRESSION: Final = ("compression.type", "uncompressed")
LARGEST_BATCH: Final = ("max.message.bytes", "1048588")
# How many replicas must have a record before it is acknowledged, from this replication on. With fewer replicas, the loss of
# one broker would refuse every append.
IN_SYNC: Final = "min.insync.replicas"
IN_SYNC_REPLICAS: Final = 2
_REPLICATED: Final = 3
# For a topic that is gone or was replaced. Event ids are made from its offsets, so a new topic is another ledger.
RESTORE_OR_REPLACE: Final = (
    f"{RESTORE_TOPIC}, or give the ledger a new topic (set CORE_TABLES_TOPIC and CORE_TABLES_AUDIT_TOPIC, then run "
    "`core-tables init`)"
)
_CREATION_TIMEOUT_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.05


def create_topics(
    admin: AdminClient, names: list[str], partitions: int, replication: int, ledger: str | None = None
) -> list[str]:
    """Create the topics that do not exist, and wait until the broker shows them; return their names.

    `ledger` is the one of them that is a ledger topic. Raises UnavailableError or SetupError.
    """
    settings = settings_of_new_topics(replication)
    wanted = []
    for name in names:
        config: Any = settings | dict([LEDGER_COMPRESSION, LARGEST_BATCH]) if name == ledger else settings
        wanted.append(NewTopic(name, partitions, replication, config=config))
    created = []
    for name, future in admin.create_topics(wanted, request_timeout=_CREATION_TIMEOUT_S).items():
        try:
            with hearing(admin):
                future.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise translate_creation(name, error) from error
    _wait_until_shown(admin, created)
    return created


def settings_of_new_topics(replication: int) -> dict[str, str]:
    """The settings of a topic that `init` creates with a replication factor."""
    settings = {name: setting.value for name, setting in TOPIC_SETTINGS.items()}
    return settings | {IN_SYNC: str(IN_SYNC_REPLICAS if replication >= _REPLICATED else 1)}


def _wait_until_shown(admin: AdminClient, names: list[str]) -> None:
    """Wait until the metadata has the new topics, since it lags behind the controller. Raises UnavailableError or SetupError."""
    deadline = time.monotonic() + _CREATION_TIMEOUT_S
    while True:
        try:
            with hearing(admin):
                shown = admin.list_topics(timeout=_CREATION_TIMEOUT_S).topics if names else {}
        except KafkaException as error:
            raise translate_kafka(error) from error
        unseen_topics = [name for name in names if name not in shown or not shown[name].partitions]
        if not unseen_topics:
            return
        if time.monotonic() > deadline:
            raise UnavailableError(
                "kafka", f"the topic {unseen_topics[0]} was created, but the broker does not show it yet; try again"
            )
        time.sleep(_LOOK_EVERY_S)


class TopicFacts(NamedTuple):
    """What the broker says about a topic."""

    topic_id: str
    partitions: int
    settings: Mapping[str, str]
    replication: int = 1  # of the partition that has the fewest replicas


class ClusterFacts(NamedTuple):
    """What the broker says about itself and about topics; those that do not exist are left out."""

    cluster_id: str
    topics: Mapping[str, TopicFacts]
    brokers: int = 1  # that are up


def describe_topics(admin: AdminClient, names: list[str], translate: Translate = translate_kafka) -> ClusterFacts:
    """Ask the broker about itself and about topics. Raises UnavailableError or SetupError."""
    cluster = _cluster(admin, names, translate)
    described = _described(admin, names, translate)
    settings = _settings(admin, list(described), translate)
    topics = {
        name: TopicFacts(str(topic.topic_id), len(topic.partitions), settings[name], _fewest_replicas(topic))
        for name, topic in described.items()
    }
    return ClusterFacts(cluster.cluster_id, topics, len(cluster.brokers))


def _cluster(admin: AdminClient, names: list[str], translate: Translate) -> Any:
    """What the broker says about the cluster. Raises UnavailableError or SetupError.

    A broker that was suspended says for a moment that no broker is up. librdkafka 2.16 fails an assertion and ends the process
    if that is the answer to its DescribeCluster; and every later question to the controller waits for minutes, unless it is
    asked for its metadata first.
    """
    with _translated(translate):
        found = answered_within(admin, partial(admin.list_topics, names[0] if names else None), REQUEST_TIMEOUT_S)
    if not found.brokers:
        raise UnavailableError("kafka", "the broker says that no broker is up; it may have been suspended; try again")
    return found


def _described(admin: AdminClient, names: list[str], translate: Translate) -> dict[str, Any]:
    """What the broker says about the topics that exist. One that this user may not see is none that does not exist."""
    found = {}
    futures = admin.describe_topics(TopicCollection(names), request_timeout=REQUEST_TIMEOUT_S)
    for name, future in futures.items():
        with hearing(admin), _translated(translate, f"DESCRIBE on the topic {name}"):
            try:
                found[name] = future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
    return found


def _settings(admin: AdminClient, names: list[str], translate: Translate) -> dict[str, dict[str, str]]:
    """The settings of topics, by name."""
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    configs: Any = admin.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S) if names else {}
    found = {}
    for resource, future in configs.items():
        with hearing(admin), _translated(translate, f"DESCRIBE_CONFIGS on the topic {resource.name}"):
            found[resource.name] = {name: entry.value for name, entry in future.result().items()}
    return found


@contextmanager
def _translated(translate: Translate, needs: str = "") -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise translate(error, needs) from error


def _fewest_replicas(topic: Any) -> int:
    return min(len(partition.replicas) for partition in topic.partitions)


def lost_topic(name: str) -> SetupError:
    """The error of a topic that was deleted."""
    return SetupError(f"the topic {name} does not exist, though the database knows it; {RESTORE_OR_REPLACE}", "topic")


def check_settings(facts: ClusterFacts, name: str) -> None:
    """Check that a topic exists and keeps its records forever, whichever broker fails. Raises SetupError."""
    topic = facts.topics.get(name)
    if topic is None:
        raise lost_topic(name)
    for setting, (value, required) in TOPIC_SETTINGS.items():
        if required and topic.settings.get(setting) != value:
            raise _losing(name, topic, setting, value)
    if topic.replication >= _REPLICATED and int(topic.settings[IN_SYNC]) < IN_SYNC_REPLICAS:
        raise _losing(name, topic, IN_SYNC, str(IN_SYNC_REPLICAS))


def _losing(name: str, topic: TopicFacts, setting: str, wanted: str) -> SetupError:
    return SetupError(
        f"the topic {name} has {setting}={topic.settings.get(setting)} and could lose records; set it to {wanted} "
        f"with `kafka-configs --alter --topic {name} --add-config {setting}={wanted}`",
        "topic",
    )


def check_topics(facts: ClusterFacts, row: LedgerTopic) -> None:
    """Compare the topics of the broker and their settings with the row in the database. Raises SetupError."""
    for name in (row.topic, row.audit_topic):
        check_settings(facts, name)
    check_identity(facts, row)
    _check_batches(row.topic, facts.topics[row.topic])


def _check_batches(name: str, topic: TopicFacts) -> None:
    """Check that a ledger topic takes in no batch that would need too much memory. Raises SetupError."""
    setting, wanted = LEDGER_COMPRESSION
    right = topic.settings.get(setting) == wanted
    if right:
        setting, wanted = LARGEST_BATCH
        right = int(topic.settings[setting]) <= int(wanted)
    if not right:
        raise SetupError(
            f"the topic {name} has {setting}={topic.settings.get(setting)}, so a small batch could unpack to more than the memory "
            f"of a worker; set it to {wanted} with `kafka-configs --alter --topic {name} --add-config {setting}={wanted}`",
            "topic",
        )


def check_again(admin: AdminClient, row: LedgerTopic) -> None:
    """Like `check_topics`, for a running worker, and without the settings.

    Stopping would not bring back records that a changed setting has deleted. Raises UnavailableError if a topic is missing
    now; if it comes back as a different topic, the next check notices that.
    """
    facts = describe_topics(admin, [row.topic, row.audit_topic], translate_running)
    for name in (row.topic, row.audit_topic):
        if name not in facts.topics:
            raise UnavailableError("kafka", f"the topic {name} no longer exists; {RESTORE_OR_REPLACE}")
    check_identity(facts, row)


def check_identity(facts: ClusterFacts, row: LedgerTopic) -> None:
    """Compare cluster id, topic ids and partition counts of topics that exist. Raises SetupError.

    More partitions than there are lanes harm nothing: no producer of ours writes to them, and no lane is changed by them.
    """
    if facts.cluster_id != row.cluster_id:
        raise SetupError(
            f"this broker belongs to cluster {facts.cluster_id}, but the database was filled from {row.cluster_id}; "
            "set CORE_TABLES_BOOTSTRAP_SERVERS to that cluster, or give the ledger a new topic (`core-tables init`)",
            "topic",
        )
    for name, topic_id in ((row.topic, row.topic_id), (row.audit_topic, row.audit_topic_id)):
        topic = facts.topics[name]
        if topic.topic_id != topic_id:
            raise SetupError(
                f"the topic {name} was deleted and created again (its id is {topic.topic_id}, the database knows {topic_id}); "
                f"{RESTORE_OR_REPLACE}",
                "topic",
            )
        if topic.partitions < row.partitions:
            raise SetupError(
                f"the topic {name} has {topic.partitions} partitions, but {row.partitions} are expected, and no topic loses any; "
                f"{RESTORE_OR_REPLACE}",
                "topic",
            )
