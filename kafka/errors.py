"""How errors of the Kafka client become ours."""

from typing import Final

from confluent_kafka import KafkaError, KafkaException

from core_tables.schemas.reasons import CoreTablesError, LaneStoppedError, SetupError, UnavailableError

_SETUP_CODES: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
_PERMISSION_CODES: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
    }
)


def translate(error: KafkaError | KafkaException) -> CoreTablesError:
    """The error of ours that an error of the Kafka client stands for."""
    cause = error.args[0] if isinstance(error, KafkaException) else error
    if not isinstance(cause, KafkaError):
        return UnavailableError("kafka", f"Kafka does not answer as it should: {cause}; see that the broker runs")
    if cause.code() == KafkaError._AUTO_OFFSET_RESET:
        return LaneStoppedError(
            f"a record that is still to be read is not in the topic any more ({cause.str()}); "
            "restore the topic from a copy of the brokers' disks (docs/RELIABILITY.md, Backup)"
        )
    if cause.code() in _SETUP_CODES:
        return SetupError(
            f"Kafka does not know a topic: {cause.str()}; see that CORE_TABLES_TOPIC and CORE_TABLES_AUDIT_TOPIC name those "
            "that `core-tables init` made, and if one was deleted, restore it (docs/RELIABILITY.md, Backup)",
            "topic",
        )
    if cause.code() in _PERMISSION_CODES:
        return SetupError(
            f"Kafka does not permit this: {cause.str()}; ask an administrator to allow it, then start this again",
            "permission",
        )
    return UnavailableError("kafka", f"Kafka does not answer as it should: {cause.str()}; see that the broker runs")


def translate_running(error: KafkaError | KafkaException) -> CoreTablesError:
    """As `translate`, about topics that were there at the start.

    One that is unknown now: a broker's metadata lags, or it was deleted; if it comes back as another, the check says so.
    """
    cause = translate(error)
    if isinstance(cause, SetupError) and cause.subject == "topic":
        return UnavailableError("kafka", cause.sentence)
    return cause
