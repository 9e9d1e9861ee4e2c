"""A model of Redis, as far as the cache's three scripts and its few commands go."""

from collections.abc import Callable, Sequence
from typing import Any

import redis

from core_tables.projection.cache.scripts import lua

from .scheduler import Scheduler


class Script:
    """A script, which its text stands for: the server always knows it."""

    def __init__(self, run: Callable[[Sequence[Any], Sequence[Any]], Any], sha: str) -> None:
        self.run = run
        self.sha = sha

    def __call__(self, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        return self.run(keys, args)


class Pipeline:
    """Calls that are sent together; each may get lost, and then those behind it are not made."""

    def __init__(self, scripts: dict[str, Script]) -> None:
        self.scripts = scripts
        self.calls: list[Callable[[], Any]] = []

    def evalsha(self, sha: str, keys: int, *rest: Any) -> None:
        self.calls.append(lambda: self.scripts[sha](rest[:keys], rest[keys:]))

    def execute(self) -> None:
        for call in self.calls:
            call()


class Redis:
    """Keys and lists, forgotten now and then; a call may get lost on the way there or back."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.labels: dict[str, str] = {}
        self.lists: dict[str, dict[str, Any]] = {}
        self.faults = 0.0
        self.fenced = True
        self.revised = True
        self.scripts: dict[str, Script] = {}

    def register_script(self, text: str) -> Script:
        scripts = {lua("advance"): self._advance, lua("fill"): self._fill, lua("read"): self._read}
        script = scripts[text]

        def run(keys: Sequence[str], args: Sequence[Any]) -> Any:
            self.scheduler.edge()
            self._maybe_lost()
            answer = script(keys, list(args))
            self._maybe_lost()
            return answer

        return self.scripts.setdefault(text, Script(run, text))

    def evalsha_ro(self, sha: str, keys: int, *rest: Any) -> Any:
        return self.scripts[sha](rest[:keys], rest[keys:])

    def pipeline(self, transaction: bool) -> "Pipeline":
        assert not transaction
        return Pipeline(self.scripts)

    def flush(self) -> None:
        """FLUSHALL."""
        self.labels.clear()
        self.lists.clear()

    def _maybe_lost(self) -> None:
        if self.scheduler.chance.random() < self.faults:
            raise redis.TimeoutError("simulated")

    def _advance(self, keys: Sequence[str], args: list[Any]) -> None:
        label = self.labels.get(keys[0])
        start, end, new_nonce = str(args[0]), str(args[1]), args[2]
        if label is not None:
            nonce, _, position = label.rpartition(":")
            repaired = nonce.partition(".")[0] != new_nonce.partition(".")[0] and self.revised
            if position == start and not repaired:
                for at in range(3, len(args), 3):
                    held = self.lists.get(f"{keys[0][:-2]}{nonce}:{args[at]}")
                    if held is not None and args[at + 2] == b"":
                        held.pop(args[at + 1], None)
                    elif held is not None:
                        held[args[at + 1]] = args[at + 2]
                self.labels[keys[0]] = f"{nonce}:{end}"
                return
            if int(position) >= int(end) and not repaired:
                return
        self.labels[keys[0]] = f"{new_nonce}:{end}"

    def _fill(self, keys: Sequence[str], args: list[Any]) -> int:
        label = self.labels.get(keys[0])
        if self.fenced and label != args[0]:
            return 0
        self.lists[keys[1]] = dict(zip(args[2::2], args[3::2], strict=True))
        return 1

    def _read(self, keys: Sequence[str], args: list[Any]) -> list[Any]:
        label = self.labels.get(keys[0])
        if label is None:
            return [None, []]
        held = self.lists.get(f"{keys[0][:-2]}{label.rpartition(':')[0]}:{args[0]}", {})
        return [label.encode(), list(held.values())]
