"""What errors of the Kafka client mean, and which of our errors they become."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from confluent_kafka import KafkaError, KafkaException

from core_tables.kafka.reported import reported
from core_tables.schemas.reasons import (
    CoreTablesError,
    FatalClientError,
    LaneStoppedError,
    SetupError,
    UnavailableError,
)

# An error of the client, and the right that its call needed, as the error of ours.
Translate = Callable[[KafkaError | KafkaException, str], CoreTablesError]
RESTORE_TOPIC: Final = "restore the topic from a copy of the brokers' disks (docs/RELIABILITY.md, Backup)"

Meaning = Literal["passes", "lost", "record", "fatal", "topic", "permission", "login", "group"]
# A code that is not listed passes too. Only where a topic is created, it must be one that the client calls retriable.
MEANINGS: Final[Mapping[int, Meaning]] = {
    KafkaError._TIMED_OUT: "passes",
    KafkaError._TRANSPORT: "passes",
    KafkaError._ALL_BROKERS_DOWN: "passes",
    KafkaError._AUTO_OFFSET_RESET: "lost",
    KafkaError._BAD_COMPRESSION: "record",
    KafkaError._BAD_MSG: "record",
    KafkaError.INVALID_MSG: "record",
    KafkaError.MSG_SIZE_TOO_LARGE: "record",
    KafkaError._NOT_IMPLEMENTED: "record",
    KafkaError._FATAL: "fatal",
    KafkaError.FENCED_INSTANCE_ID: "fatal",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "topic",
    KafkaError._UNKNOWN_TOPIC: "topic",
    KafkaError._UNKNOWN_PARTITION: "topic",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "permission",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "permission",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "permission",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "permission",
    KafkaError.SASL_AUTHENTICATION_FAILED: "login",
    KafkaError._AUTHENTICATION: "login",
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: "group",
    KafkaError.UNSUPPORTED_ASSIGNOR: "group",
}
# What a call says that was not answered. Why is what the client reported, if it reported anything.
UNANSWERED: Final = {
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
}
_CHECK_SETTINGS: Final = (
    "check CORE_TABLES_BOOTSTRAP_SERVERS and the security settings in CORE_TABLES_KAFKA, and that the broker is running"
)


class UnreadableRecordError(LaneStoppedError):
    """The client cannot read what lies at an offset: it tries again and again, and gets no further."""

    def __init__(self, topic: str, partition: int, offset: int, detail: str) -> None:
        super().__init__(
            f"the client cannot read the record at offset {offset} of partition {partition} of {topic}: {detail}; see "
            '"A record cannot be read" in docs/RUNBOOK.md',
            "record",
        )
        self.offset = offset


def is_fatal(error: KafkaError) -> bool:
    """Whether the client that gave an error cannot be used any more."""
    return error.fatal() or MEANINGS.get(error.code()) == "fatal"


def unusable(detail: str) -> FatalClientError:
    """The error of a client that cannot be used any more."""
    return FatalClientError(
        f"the Kafka client cannot be used any more: {detail}; start this program again, and if two programs have one "
        "group.instance.id, give each its own (CORE_TABLES_KAFKA)"
    )


def of_record(error: KafkaError) -> bool:
    """Whether an error that came in place of a record is about that record, and not about the broker."""
    return MEANINGS.get(error.code()) == "record"


def translate_kafka(error: KafkaError | KafkaException, needs: str = "") -> CoreTablesError:
    """The error of ours for an error of the Kafka client.

    `needs`: the right that the call needed, such as `READ on the topic x`; the client's error does not say.
    """
    meaning, detail = _read(error)
    match meaning:
        case "lost":
            return LaneStoppedError(
                f"records still to be read are no longer in the topic ({detail}); {RESTORE_TOPIC}", "records_lost"
            )
        case "record":  # of which partition, its caller knows
            return UnavailableError("kafka", f"a record could not be read: {detail}; it is read again")
        case "fatal":
            return unusable(detail)
        case "topic":
            return SetupError(
                f"Kafka does not show a topic: {detail}; check its name in the settings, and that this user has DESCRIBE on it; "
                f"create it with `core-tables init` only if it is new; if it was deleted, {RESTORE_TOPIC}",
                "topic",
            )
        case "permission":
            return denied(detail, [needs] if needs else [])
        case "login":
            return SetupError(
                f"Kafka refused the login: {detail}; correct the credentials (set CORE_TABLES_KAFKA), then try again",
                "permission",
            )
        case "group":
            return UnavailableError(
                "kafka",
                f"another program is in the workers' consumer group, or an older worker is, with another protocol: {detail}; "
                "give that program a group of its own, or the workers one (CORE_TABLES_GROUP_ID)",
            )
        case _:
            return UnavailableError("kafka", f"Kafka did not answer: {detail}; {_CHECK_SETTINGS}")


def denied(detail: str, needs: Sequence[str]) -> SetupError:
    """The error of a program that lacks rights; `needs` names them, each as an operation and what it is on."""
    missing = f"this needs {', '.join(needs)}; " if needs else ""
    return SetupError(
        f"Kafka denied access: {detail}; {missing}ask an administrator for it, then try again", "permission"
    )


def translate_running(error: KafkaError | KafkaException, needs: str = "") -> CoreTablesError:
    """Like `translate_kafka`, for a program that has worked with these topics.

    If one of them is unknown now, either the broker's metadata lags or the topic was deleted. If it comes back as a different
    topic, the check of its id notices that. A login that is refused now may be in the middle of a rotation. A fatal error of a
    producer passes: it is replaced.
    """
    cause = translate_kafka(error, needs)
    meaning, detail = _read(error)
    if meaning == "topic":
        return UnavailableError(
            "kafka",
            f"Kafka does not show a topic now: {detail}; it is asked again. This passes after a broker was lost. If it "
            f"lasts, see that this user has DESCRIBE on the topic; if it was deleted, {RESTORE_TOPIC}",
        )
    return UnavailableError("kafka", cause.message) if meaning in ("login", "fatal") else cause


def translate_written(topic: str, error: KafkaException, needs: str) -> CoreTablesError:
    """Like `translate_running`, for a program that writes: what is about a record is about one that the broker did not take."""
    meaning, detail = _read(error)
    if meaning != "record":
        return translate_running(error, needs)
    return UnavailableError(
        "kafka",
        f"the broker refused a record for {topic}: {detail}; it is sent again. If its size is refused, raise max.message.bytes of "
        "the topic to Kafka's default, 1048588",
    )


def translate_creation(topic: str, error: KafkaException) -> CoreTablesError:
    """Like `translate_kafka`, for a topic that could not be created: a code not in the table is a wrong setup."""
    meaning, detail = _read(error)
    if meaning is not None:
        return translate_kafka(error, f"CREATE on the topic {topic}")
    return SetupError(
        f"the topic {topic} could not be created: {detail}; check that there are as many brokers as CORE_TABLES_REPLICATION "
        "says, and that this user may create topics",
        "topic",
    )


def unread(topic: str, partition: int) -> UnavailableError:
    """The error of a reader that reached neither a record nor the end of a partition in time."""
    return UnavailableError(
        "kafka",
        f"Kafka did not answer: partition {partition} of {topic} could not be read in time{as_reported()}; {_CHECK_SETTINGS}",
    )


def explained(error: KafkaError) -> str:
    """The text of an error of the Kafka client, with why a call was not answered."""
    return f"{error.str()}{as_reported()}" if error.code() in UNANSWERED else error.str()


def as_reported() -> str:
    """What a Kafka client of this process reported lately, to be put behind a text."""
    report = reported()
    return "" if report is None else f" (the Kafka client reported: {report.str()})"


def _read(error: KafkaError | KafkaException) -> tuple[Meaning | None, str]:
    """What an error means, and the text that the client gave it."""
    cause = error.args[0] if isinstance(error, KafkaException) else error
    if not isinstance(cause, KafkaError):
        return "passes", str(cause)
    report = reported() if cause.code() in UNANSWERED else None
    if report is not None and MEANINGS.get(report.code()) == "login":
        return "login", explained(cause)
    return MEANINGS.get(cause.code(), "passes" if cause.retriable() else None), explained(cause)
