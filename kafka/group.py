"""Who is in the workers' consumer group, and which partitions each member has."""

import os
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, NamedTuple

from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from core_tables.kafka.clients import REQUEST_TIMEOUT_S
from core_tables.kafka.errors import translate_running

CLIENT_ID: Final = "core-tables-worker"
# The longest that the client allows. Its own timeout must never end a question about a group: if it does while the coordinator is
# looked for, librdkafka 2.16 gives a reference back twice once the coordinator is found, and aborts the process.
_OPEN_S: Final = 3600.0


def worker_client_id() -> str:
    """The client id of this process's consumer: it tells workers from strangers in their group."""
    return f"{CLIENT_ID}-{socket.gethostname()}-{os.getpid()}"


class Group(NamedTuple):
    """A consumer group: by partition of one topic, the client id of its owner, and the members that are no workers."""

    owners: Mapping[int, str]
    strangers: list[str]
    settled: bool  # whether no rebalance is under way

    def of_workers(self) -> dict[int, str]:
        """The partitions that workers have."""
        return {partition: owner for partition, owner in self.owners.items() if owner.startswith(CLIENT_ID)}


def questions(admin: AdminClient, groups: Sequence[str], *, rights: bool = False) -> Mapping[str, "Future[Any]"]:
    """Ask about groups, and with `rights` what this user may do; `answered` waits. Drop a client that did not answer."""
    asked: Mapping[str, Future[Any]] = admin.describe_consumer_groups(
        list(groups), include_authorized_operations=rights, request_timeout=_OPEN_S
    )
    return asked


def answered(question: "Future[Any]", timeout_s: float = REQUEST_TIMEOUT_S) -> Any:
    """The answer to one of `questions`. Raises KafkaException, also if none comes in time."""
    try:
        return question.result(timeout_s)
    except TimeoutError:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None


def describe_group(admin: AdminClient, group_id: str, topic: str) -> Group | None:
    """What the broker says about a group; None if it does not say, which may be for want of a permission.

    Raises UnavailableError if no answer comes.
    """
    try:
        described = answered(questions(admin, [group_id])[group_id])
    except KafkaException as error:
        if error.args[0].code() == KafkaError._TIMED_OUT:
            raise translate_running(error) from error
        return None
    owners = {
        target.partition: member.client_id
        for member in described.members
        for target in (member.assignment.topic_partitions if member.assignment is not None else ())
        if target.topic == topic
    }
    strangers = [
        f"{member.client_id} at {member.host}"
        for member in described.members
        if not member.client_id.startswith(CLIENT_ID)
    ]
    return Group(owners, strangers, described.state in (ConsumerGroupState.STABLE, ConsumerGroupState.EMPTY))
