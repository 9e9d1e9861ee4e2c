"""Which rights a worker lacks, asked before it folds anything: some would be missed only at the second start, or later."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient  # type: ignore[attr-defined]

from core_tables.kafka.clients import REQUEST_TIMEOUT_S
from core_tables.kafka.errors import denied, translate_running
from core_tables.kafka.reported import hearing


class Rights(NamedTuple):
    """The operations that a program needs on topics and on consumer groups, by name."""

    topics: Mapping[str, frozenset[AclOperation]]
    groups: Mapping[str, frozenset[AclOperation]]


_COORDINATOR_COMES: Final = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}
_PAUSE_S: Final = 0.1
_READ: Final = frozenset({AclOperation.READ})
_WRITE: Final = frozenset({AclOperation.WRITE})
_CONFIGS: Final = frozenset({AclOperation.DESCRIBE_CONFIGS})


def worker_rights(topic: str, audit_topic: str, groups: Sequence[str], *, audit: bool) -> Rights:
    """What a worker needs. WRITE on its transactional ids is missing here: no broker says whether it is granted."""
    on_audit = _READ | _CONFIGS | _WRITE if audit else _CONFIGS
    return Rights({topic: _READ | _CONFIGS, audit_topic: on_audit}, dict.fromkeys(groups, _READ))


def check_rights(admin: AdminClient, rights: Rights) -> None:
    """Raise SetupError, naming them, if this user lacks some of the rights; UnavailableError if the broker does not answer.

    A broker that does not say what this user may do is not asked further.
    """
    deadline = time.monotonic() + REQUEST_TIMEOUT_S
    while True:
        try:
            missing = _missing(admin, rights)
            break
        except KafkaException as error:
            # The first group that a cluster is asked about: its coordinator is not there yet.
            if error.args[0].code() not in _COORDINATOR_COMES or time.monotonic() > deadline:
                raise translate_running(error) from error
            time.sleep(_PAUSE_S)
    if missing:
        raise denied("this user lacks rights", missing)


def _missing(admin: AdminClient, rights: Rights) -> list[str]:
    """The rights that are missing, each as an operation and what it is on. Raises KafkaException."""
    topics: Any = admin.describe_topics(
        TopicCollection(list(rights.topics)), include_authorized_operations=True, request_timeout=REQUEST_TIMEOUT_S
    )
    groups: Any = admin.describe_consumer_groups(
        list(rights.groups), include_authorized_operations=True, request_timeout=REQUEST_TIMEOUT_S
    )
    missing = []
    for kind, needed, answers in (("topic", rights.topics, topics), ("consumer group", rights.groups, groups)):
        for name, operations in needed.items():
            with hearing(admin):
                allowed = _allowed(answers[name])
            if allowed is not None:
                lacking = sorted(operation.name for operation in operations - allowed)
                missing += [f"{operation} on the {kind} {name}" for operation in lacking]
    return missing


def _allowed(answer: Any) -> frozenset[AclOperation] | None:
    """The operations that the broker allows this user on a topic or group; None if it does not say."""
    try:
        operations = answer.result().authorized_operations
    except KafkaException as error:
        match error.args[0].code():
            case KafkaError.TOPIC_AUTHORIZATION_FAILED | KafkaError.GROUP_AUTHORIZATION_FAILED:
                return frozenset()
            case KafkaError.UNKNOWN_TOPIC_OR_PART | KafkaError.GROUP_ID_NOT_FOUND:
                return None
        raise
    return None if operations is None else frozenset(operations)
