"""The topics that the design needs: one partition count for both, and no record ever deleted."""

import time
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from core_tables.schemas.reasons import SetupError, UnavailableError

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
