"""A rebuild that dies, as kill -9 would end it, at a named point of a chunk: `dying_rebuild POINT HOW_OFTEN`."""

import sys
from typing import Any

from core_tables.cli.main import main
from core_tables.projection.cache.pending_cache import PendingCache
from core_tables.projection.postgres.store import Store
from core_tables.projection.verify import repair

from .dying_worker import plant

# In the order of effects: (owner, function, whether it has done its work already).
POINTS: dict[str, tuple[Any, str, bool]] = {
    "before_replacing": (repair, "replace_rows", False),
    "while_replacing": (Store, "write_rows", False),
    "before_commit": (repair, "replace_rows", True),
    "before_telling_redis": (PendingCache, "forget", False),
    "after_telling_redis": (PendingCache, "forget", True),
}

if __name__ == "__main__":
    plant(POINTS[sys.argv[1]], int(sys.argv[2]))
    sys.argv[1:] = ["rebuild"]
    main()
