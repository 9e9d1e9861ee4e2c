"""How a worker folds: one frozen object."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a worker; sizes are numbers of records."""

    postgres_dsn: str
    batch_size: int = 8000
    states_in_memory: int = 20_000
    audit_queue_size: int = 20_000
    health_file: Path | None = None
