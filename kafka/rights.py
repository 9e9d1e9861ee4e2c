"""The least rights of each program on Kafka: one table, which the worker checks at its start and `core-tables grants` prints.

A right that is missing would otherwise be missed only when it is first needed, which may be at the second start, or later.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, Literal, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient  # type: ignore[attr-defined]

from core_tables.kafka.clients import LOG_END_GROUP, REQUEST_TIMEOUT_S
from core_tables.kafka.errors import denied, translate_running
from core_tables.kafka.group import answered, questions
from core_tables.kafka.reported import hearing

Kind = Literal["topic", "consumer group", "transactional id"]
Program = Literal["producer", "canceler", "worker", "worker-no-audit", "reader", "operator", "administrator", "keda"]


class Right(NamedTuple):
    """An operation on a topic, a consumer group, or on each transactional id that begins with `name`."""

    operation: AclOperation
    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.operation.name} on the {self.kind} {self.name}{'*' if self.kind == 'transactional id' else ''}"


_CREATE, _DESCRIBE, _CONFIGS = AclOperation.CREATE, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS
_READ, _WRITE = AclOperation.READ, AclOperation.WRITE
# L and A are the ledger topic and the audit topic, G is the workers' consumer group.
_PRODUCER: Final = [Right(_WRITE, "topic", "L")]
_ON_LEDGER: Final = [Right(_READ, "topic", "L"), Right(_CONFIGS, "topic", "L")]
_AUDIT_SEEN: Final = [Right(_DESCRIBE, "topic", "A"), Right(_CONFIGS, "topic", "A")]
_ON_GROUPS: Final = [Right(_READ, "consumer group", "G"), Right(_READ, "consumer group", "G.audit-tail")]
RIGHTS: Final[Mapping[Program, Sequence[Right]]] = {
    "producer": _PRODUCER,
    "canceler": [*_PRODUCER, Right(_READ, "topic", "L"), Right(_READ, "consumer group", LOG_END_GROUP)],
    "worker": [
        *_ON_LEDGER,
        *(Right(operation, "topic", "A") for operation in (_READ, _WRITE, _CONFIGS)),
        *_ON_GROUPS,
        Right(_WRITE, "transactional id", "A."),
    ],
    "worker-no-audit": [*_ON_LEDGER, *_AUDIT_SEEN, *_ON_GROUPS],
    "reader": [Right(_READ, "topic", "A"), Right(_READ, "consumer group", "G.audit-tail")],
    "operator": [
        *_ON_LEDGER,
        *_AUDIT_SEEN,
        Right(_DESCRIBE, "consumer group", "G"),
        Right(_READ, "consumer group", "G.audit-tail"),
    ],
    "administrator": [
        Right(operation, "topic", topic) for topic in "LA" for operation in (_CREATE, _DESCRIBE, _CONFIGS)
    ],
    "keda": [Right(_DESCRIBE, "topic", "L"), Right(_DESCRIBE, "consumer group", "G")],
}
_COORDINATOR_COMES: Final = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}
_PAUSE_S: Final = 0.1


def rights_of(program: Program, topic: str, audit_topic: str, group_id: str) -> list[Right]:
    """The least rights of a program, on these topics and this group."""
    names = {
        "L": topic,
        "A": audit_topic,
        "A.": f"{audit_topic}.",
        "G": group_id,
        "G.audit-tail": f"{group_id}.audit-tail",
    }
    return [right._replace(name=names.get(right.name, right.name)) for right in RIGHTS[program]]


def check_rights(admin: AdminClient, rights: Iterable[Right]) -> None:
    """Raise SetupError, naming them, if this user lacks some of the rights; UnavailableError if the broker does not answer.

    A broker that does not say what this user may do is not asked further. No broker says it about transactional ids.
    """
    asked, deadline = list(rights), time.monotonic() + REQUEST_TIMEOUT_S
    while True:
        try:
            missing = _missing(admin, asked)
            break
        except KafkaException as error:
            # The first group that a cluster is asked about: its coordinator is not there yet.
            if error.args[0].code() not in _COORDINATOR_COMES or time.monotonic() > deadline:
                raise translate_running(error) from error
            time.sleep(_PAUSE_S)
    if missing:
        raise denied("this user lacks rights", [str(right) for right in missing])


def _missing(admin: AdminClient, rights: Sequence[Right]) -> list[Right]:
    """The rights that are missing. Raises KafkaException."""
    missing = _missing_of(rights, "topic", partial(_asked_of_topics, admin), admin)
    return missing + _missing_of(rights, "consumer group", partial(questions, admin, rights=True), admin)


def _missing_of(
    rights: Sequence[Right], kind: Kind, ask: Callable[[list[str]], Mapping[str, "Future[Any]"]], admin: AdminClient
) -> list[Right]:
    missing = []
    for name, answer in ask(_names(rights, kind)).items():
        with hearing(admin):
            allowed = _allowed(answer)
        if allowed is not None:
            needed = [right for right in rights if (right.kind, right.name) == (kind, name)]
            missing += [right for right in needed if right.operation not in allowed]
    return missing


def _asked_of_topics(admin: AdminClient, names: list[str]) -> Mapping[str, "Future[Any]"]:
    return admin.describe_topics(
        TopicCollection(names), include_authorized_operations=True, request_timeout=REQUEST_TIMEOUT_S
    )


def _names(rights: Iterable[Right], kind: Kind) -> list[str]:
    return list(dict.fromkeys(right.name for right in rights if right.kind == kind))


def _allowed(answer: Any) -> frozenset[AclOperation] | None:
    """The operations that the broker allows this user on a topic or group; None if it does not say."""
    try:
        operations = answered(answer).authorized_operations
    except KafkaException as error:
        match error.args[0].code():
            case KafkaError.TOPIC_AUTHORIZATION_FAILED | KafkaError.GROUP_AUTHORIZATION_FAILED:
                return frozenset()
            case KafkaError.UNKNOWN_TOPIC_OR_PART | KafkaError.GROUP_ID_NOT_FOUND:
                return None
        raise
    return None if operations is None else frozenset(operations)
