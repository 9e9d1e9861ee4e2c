"""How the worker's Kafka clients are set up, and how their errors become ours."""

from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from core_tables.consumer.settings import WorkerSettings
from core_tables.schemas.reasons import CoreTablesError, LaneStoppedError, SetupError, UnavailableError

REQUEST_TIMEOUT_S: Final = 10.0
TRANSACTION_TIMEOUT_S: Final = 15.0

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


def _common(settings: WorkerSettings) -> dict[str, Any]:
    return {"bootstrap.servers": settings.bootstrap_servers, "log_level": 3, **settings.kafka}


def ledger_consumer(settings: WorkerSettings, logger: Any) -> Consumer:
    """The consumer of the ledger topic. The group spreads the work; no position is ever read from it."""
    return Consumer(
        {
            **_common(settings),
            "group.id": settings.group_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": 1_000,  # a rebalance is heard of with a heartbeat, and takes two of them
            "max.poll.interval.ms": 120_000,
            "queued.min.messages": 8_000,
            "queued.max.messages.kbytes": 8_192,
            "fetch.queue.backoff.ms": 20,
            "fetch.wait.max.ms": 50,
            "max.partition.fetch.bytes": 131_072,
        },
        logger=logger,
    )


def tail_consumer(settings: WorkerSettings, logger: Any) -> Consumer:
    """A consumer that reads the end of audit partitions; it joins no group."""
    return Consumer(
        {
            **_common(settings),
            "group.id": f"{settings.group_id}.audit-tail",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
        },
        logger=logger,
    )


def audit_producer(settings: WorkerSettings, transactional_id: str, logger: Any) -> Producer:
    """The producer of one audit partition; opening its transactional.id fences whoever had it before."""
    return Producer(
        {
            **_common(settings),
            "transactional.id": transactional_id,
            "transaction.timeout.ms": int(TRANSACTION_TIMEOUT_S * 1000),
            "message.timeout.ms": int(REQUEST_TIMEOUT_S * 1000),
            "linger.ms": 2,
            "compression.type": "lz4",
        },
        logger=logger,
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


def header(headers: Any, name: str) -> bytes | None:
    """The last header of a name, or None."""
    found = None
    for key, value in headers or ():
        if key == name and isinstance(value, bytes):
            found = value
    return found
