"""Who is in the workers' consumer group, and which partitions each member has."""

import os
import socket
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from core_tables.kafka.clients import REQUEST_TIMEOUT_S

CLIENT_ID: Final = "core-tables-worker"


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


def describe_group(admin: AdminClient, group_id: str, topic: str) -> Group | None:
    """What the broker says about a group; None if it does not say, which may be for want of a permission."""
    try:
        described: Any = admin.describe_consumer_groups([group_id], request_timeout=REQUEST_TIMEOUT_S)[
            group_id
        ].result()
    except KafkaException:
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
