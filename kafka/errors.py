"""What errors of the Kafka client mean, and which of our errors they become."""

from collections.abc import Mapping
from typing import Final, Literal

from confluent_kafka import KafkaError, KafkaException

from core_tables.schemas.reasons import CoreTablesError, LaneStoppedError, SetupError, UnavailableError

RESTORE_TOPIC: Final = "restore the topic from a copy of the brokers' disks (docs/RELIABILITY.md, Backup)"

Meaning = Literal["passes", "lost", "topic", "permission", "group"]
# A code that is not listed passes too. Only where a topic is created, it must be one that the client calls retriable.
MEANINGS: Final[Mapping[int, Meaning]] = {
    KafkaError._TIMED_OUT: "passes",
    KafkaError._TRANSPORT: "passes",
    KafkaError._ALL_BROKERS_DOWN: "passes",
    KafkaError._AUTO_OFFSET_RESET: "lost",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "topic",
    KafkaError._UNKNOWN_TOPIC: "topic",
    KafkaError._UNKNOWN_PARTITION: "topic",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "permission",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "permission",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "permission",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "permission",
    KafkaError.SASL_AUTHENTICATION_FAILED: "permission",
    KafkaError._AUTHENTICATION: "permission",
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: "group",
    KafkaError.UNSUPPORTED_ASSIGNOR: "group",
}


class ClientSettingError(SetupError):
    """The Kafka client rejects a setting; `why` is its own explanation."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the Kafka client rejects a setting: {why}; correct the settings passed to it", "machine")
        self.why = why


def translate_kafka(error: KafkaError | KafkaException) -> CoreTablesError:
    """The error of ours for an error of the Kafka client."""
    meaning, detail = _read(error)
    match meaning:
        case "lost":
            return LaneStoppedError(f"records still to be read are no longer in the topic ({detail}); {RESTORE_TOPIC}")
        case "topic":
            return SetupError(
                f"Kafka does not know a topic: {detail}; check its name in the settings, create it with `core-tables init` "
                f"if it is new, and if it was deleted, {RESTORE_TOPIC}",
                "topic",
            )
        case "permission":
            return SetupError(
                f"Kafka denied access: {detail}; ask an administrator for it, then try again", "permission"
            )
        case "group":
            return UnavailableError(
                "kafka",
                f"another program is in the workers' consumer group, or an older worker is, with another protocol: {detail}; "
                "give that program a group of its own, or the workers one (CORE_TABLES_GROUP_ID)",
            )
        case _:
            return UnavailableError("kafka", f"Kafka did not answer: {detail}; check that the broker is running")


def translate_running(error: KafkaError | KafkaException) -> CoreTablesError:
    """Like `translate_kafka`, for topics that existed at startup.

    If one of them is unknown now, either the broker's metadata lags or the topic was deleted. If it comes back as a different
    topic, the check of its id notices that.
    """
    cause = translate_kafka(error)
    if isinstance(cause, SetupError) and cause.subject == "topic":
        return UnavailableError("kafka", cause.message)
    return cause


def translate_creation(topic: str, error: KafkaException) -> CoreTablesError:
    """Like `translate_kafka`, for a topic that could not be created: a code not in the table is a wrong setup."""
    meaning, detail = _read(error)
    if meaning is not None:
        return translate_kafka(error)
    return SetupError(
        f"the topic {topic} could not be created: {detail}; check that there are as many brokers as CORE_TABLES_REPLICATION "
        "says, and that this user may create topics",
        "topic",
    )


def unread(topic: str, partition: int) -> UnavailableError:
    """The error of a reader that reached neither a record nor the end of a partition in time."""
    return UnavailableError(
        "kafka",
        f"Kafka did not answer: partition {partition} of {topic} could not be read in time; check that the Kafka broker is running",
    )


def _read(error: KafkaError | KafkaException) -> tuple[Meaning | None, str]:
    """What an error means, and the text that the client gave it."""
    cause = error.args[0] if isinstance(error, KafkaException) else error
    if not isinstance(cause, KafkaError):
        return "passes", str(cause)
    return MEANINGS.get(cause.code(), "passes" if cause.retriable() else None), cause.str()
