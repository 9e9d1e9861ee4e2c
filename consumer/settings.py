"""How a worker folds: one frozen object."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a worker.

    Attributes:
        batch_size: the most records that are folded in one transaction.
        states_in_memory: how many work orders are kept in memory, of all lanes together.
        audit_queue_size: how many outcomes may wait for the audit before fetching pauses.
        audit_patience_s: how many seconds a full audit queue is waited for before fetching pauses.
        health_file: a file that is written once a second (health.py), if any.
    """

    batch_size: int = 8000
    states_in_memory: int = 20_000
    audit_queue_size: int = 20_000
    audit_patience_s: float = 1.0
    health_file: Path | None = None
