"""The settings of a worker."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a worker.

    Attributes:
        batch_size: how many records are folded in one transaction at most.
        states_in_memory: how many work orders are kept in memory, all lanes together.
        audit_queue_size: how many outcomes may wait for the audit before fetching pauses.
        audit_patience_s: how many seconds the worker waits for a full audit queue before fetching pauses.
        stands_after_s: after how many seconds without a turn of a thread the worker is not alive (probes.py).
        waits_after_s: after how many seconds a trouble that should pass makes it not ready.
        health_file: a file that is written once a second (health_file.py), if any.
    """

    batch_size: int = 8000
    states_in_memory: int = 20_000
    audit_queue_size: int = 20_000
    audit_patience_s: float = 1.0
    stands_after_s: float = 90.0
    waits_after_s: float = 30.0
    health_file: Path | None = None
