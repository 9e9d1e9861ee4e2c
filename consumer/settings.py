"""What a worker is told at start: one frozen object."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from core_tables.schemas.vocabulary import LEDGER_TOPIC


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a worker; times in seconds, sizes in records."""

    bootstrap_servers: str
    postgres_dsn: str
    redis_url: str | None = None
    topic: str = LEDGER_TOPIC
    group_id: str = "core-tables"
    audit: bool = True
    batch_size: int = 8000
    states_in_memory: int = 20_000
    audit_queue_size: int = 20_000
    # Passed to every Kafka client as it is: security settings and the like.
    kafka: Mapping[str, str] = field(default_factory=dict)
