"""How the Kafka clients are set up."""

from typing import Any, Final

from confluent_kafka import Consumer, Producer

from core_tables.kafka.settings import KafkaSettings

REQUEST_TIMEOUT_S: Final = 10.0
TRANSACTION_TIMEOUT_S: Final = 15.0


def _common(settings: KafkaSettings) -> dict[str, Any]:
    return {"bootstrap.servers": settings.bootstrap_servers, "log_level": 3, **settings.extra}


def ledger_consumer(settings: KafkaSettings, logger: Any) -> Consumer:
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


def tail_consumer(settings: KafkaSettings, logger: Any) -> Consumer:
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


def audit_producer(settings: KafkaSettings, transactional_id: str, logger: Any) -> Producer:
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


def header(headers: Any, name: str) -> bytes | None:
    """The last header of a name, or None."""
    found = None
    for key, value in headers or ():
        if key == name and isinstance(value, bytes):
            found = value
    return found
