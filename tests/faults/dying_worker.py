"""A worker that dies, as kill -9 would end it, at a named point of the order of effects: `dying_worker POINT [HOW_OFTEN]`.

The points are planted from outside; the worker's own code knows nothing of them.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from core_tables.cli.main import main
from core_tables.consumer import worker
from core_tables.consumer.audit_emitter import AuditEmitter
from core_tables.consumer.audit_queue import AuditQueue
from core_tables.projection.cache.pending_cache import PendingCache
from core_tables.projection.postgres.store import Store

DIED = 77  # the exit code of a death at the point, and of nothing else

# In the order of effects: (owner, function, whether it has done its work already).
POINTS: dict[str, tuple[Any, str, bool]] = {
    "before_guard": (Store, "begin", False),
    "after_guard_and_load": (Store, "begin", True),
    "after_write": (Store, "write", True),
    "after_commit_and_notify": (Store, "commit", True),
    "after_cache": (PendingCache, "advance", True),
    "after_queue": (AuditQueue, "put", True),
    "after_memory": (worker, "remember", True),
    "before_audit_open": (AuditEmitter, "_init", False),
    "after_audit_init": (AuditEmitter, "_init", True),
    "after_tail": (AuditEmitter, "_find_offset", True),
    "in_audit_transaction": (AuditEmitter, "_begin", True),
    "after_audit_commit": (AuditEmitter, "_commit", True),
    "after_recall": (Store, "recall", True),
    "after_audited": (Store, "raise_audited", True),
}


def die() -> None:
    """End the process as kill -9 would."""
    os._exit(DIED)


def plant(point: tuple[Any, str, bool], survive: int, end: Callable[[], None] = die) -> None:
    """Make the process die, or what `end` does instead, when it has come to a point `survive` times."""
    owner, name, afterwards = point
    real = getattr(owner, name)
    passed = 0

    def dying(*arguments: Any, **named: Any) -> Any:
        nonlocal passed
        answer = real(*arguments, **named) if afterwards else None
        passed += 1
        if passed == survive + 1:
            end()
        return answer if afterwards else real(*arguments, **named)

    setattr(owner, name, dying)


if __name__ == "__main__":
    plant(POINTS[sys.argv[1]], int(sys.argv[2]))
    sys.argv[1:] = ["worker", "--batch", "100"]
    main()
