"""What a forked process must not share with its parent: connections, clients, threads and locks."""

import os
from typing import Final, Protocol
from weakref import WeakSet


class _Forkable(Protocol):
    def after_fork(self) -> None: ...


_all: Final[WeakSet[_Forkable]] = WeakSet()


def reset_after_fork(part: _Forkable) -> None:
    """Call `part.after_fork()` in every process that is forked from this one, before anything else runs there."""
    _all.add(part)


def _after_fork() -> None:
    for part in list(_all):
        part.after_fork()


os.register_at_fork(after_in_child=_after_fork)
