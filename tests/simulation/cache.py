"""A model of Redis, as far as the cache's two scripts, its transactions and its few commands go."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis

from core_tables.projection.cache.pending_cache import PendingCache
from core_tables.projection.cache.scripts import lua

from .scheduler import Scheduler


class ShortLists(PendingCache):
    """The real client, with lists that are cut as soon as they have two records."""

    longest = kept = 1


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

    def execute(self) -> list[bytes]:
        for call in self.calls:
            call()
        return [b"moved"] * len(self.calls)


class Connection:
    """A connection of a reader, which sends packed transactions."""

    def __init__(self, server: "Redis") -> None:
        self.server = server
        self.replies: deque[Any] = deque()

    def send_packed_command(self, sent: Sequence[bytes], *, check_health: bool) -> None:
        assert not check_health
        commands = list(_commands(b"".join(sent)))
        assert [commands[0], commands[-1]] == [["MULTI"], ["EXEC"]]
        self.server.call_edge()
        results = self.server.transaction(commands[1:-1])
        self.replies = deque(["OK", *(["QUEUED"] * len(results)), results])

    def read_response(self) -> Any:
        return self.replies.popleft()

    def disconnect(self) -> None:
        self.replies.clear()


class Redis:
    """Keys and sorted lists, forgotten now and then; a call may get lost on the way there or back."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.connection_pool = self
        self.labels: dict[str, str] = {}
        self.lists: dict[str, set[bytes]] = {}
        self.faults = 0.0
        self.fenced = True
        self.revised = True
        self.at_once = True
        self.scripts: dict[str, Script] = {}

    def get_connection(self) -> Connection:
        return Connection(self)

    def release(self, _connection: Connection) -> None:
        """It is the caller's alone."""

    def register_script(self, text: str) -> Script:
        script = {lua("advance"): self._advance, lua("fill"): self._fill}[text]

        def run(keys: Sequence[str], args: Sequence[Any]) -> Any:
            self.call_edge()
            answer = script(keys, list(args))
            self._maybe_lost()
            return answer

        return self.scripts.setdefault(text, Script(run, text))

    def pipeline(self, transaction: bool) -> "Pipeline":
        assert not transaction
        return Pipeline(self.scripts)

    def call_edge(self) -> None:
        """A call is on its way."""
        self.scheduler.edge()
        self._maybe_lost()

    def transaction(self, commands: Sequence[Sequence[str]]) -> list[Any]:
        """What commands answer, at one moment unless a defect says otherwise."""
        answers: list[Any] = []
        for command, key, *rest in commands:
            if command == "GET":
                label = self.labels.get(key)
                answers.append(None if label is None else label.encode())
            else:
                assert (command, rest[0]) == ("ZRANGE", "0")
                found, end = sorted(self.lists.get(key, ())), int(rest[1])
                answers.append(found if end == -1 else found[: end + 1])
            if not self.at_once:
                self.scheduler.edge()
        return answers

    def flush(self) -> None:
        """FLUSHALL."""
        self.labels.clear()
        self.lists.clear()

    def _maybe_lost(self) -> None:
        if self.scheduler.chance.random() < self.faults:
            raise redis.TimeoutError("simulated")

    def _advance(self, keys: Sequence[str], args: list[Any]) -> None:
        label = self.labels.get(keys[0])
        start, end, new_nonce, longest, kept = str(args[0]), str(args[1]), args[2], args[3], args[4]
        if label is not None:
            nonce, _, position = label.rpartition(":")
            repaired = nonce.partition(".")[0] != new_nonce.partition(".")[0] and self.revised
            if position == start and not repaired:
                for at in range(5, len(args), 3):
                    name = f"{keys[0][:-2]}{nonce}:{args[at]}"
                    if name in self.lists:
                        self.lists[name] = self._changed(self.lists[name], args[at + 1], args[at + 2], longest, kept)
                self.labels[keys[0]] = f"{nonce}:{end}"
                return
            if int(position) >= int(end) and not repaired:
                return
        self.labels[keys[0]] = f"{new_nonce}:{end}"

    def _changed(self, held: set[bytes], leaves: bytes, added: bytes, longest: int, kept: int) -> set[bytes]:
        held = {member for member in held if not leaves or not member.startswith(leaves + b"\0")}
        if not added or added > max(held):  # behind the marker
            return held
        inorder = sorted(held | {added})
        if len(inorder) > longest + 1:
            inorder = [*inorder[:kept], inorder[kept - 1].partition(b"\0")[0] + b"\1"]
        return set(inorder)

    def _fill(self, keys: Sequence[str], args: list[Any]) -> int:
        label = self.labels.get(keys[0])
        if self.fenced and label != args[0]:
            return 0
        rest = iter(args[2:])
        for key in keys[1:]:
            self.lists[key] = {next(rest) for _ in range(next(rest))}
        return 1


def _commands(packed: bytes) -> Iterator[list[str]]:
    """Commands as clients send them: how many words each has, and each word with its length."""
    parts = deque(packed.split(b"\r\n"))
    while parts[0]:
        count = int(parts.popleft()[1:])
        yield [[parts.popleft(), parts.popleft()][1].decode() for _ in range(count)]
