"""How the Kafka clients reach the broker: one frozen object."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class KafkaSettings:
    """Where the broker is, the workers' consumer group, and more settings for every client (security and the like)."""

    bootstrap_servers: str
    group_id: str = "core-tables"
    extra: Mapping[str, str] = field(default_factory=dict)
