"""The least rights of each program on Redis: one table, which `core-tables grants` prints."""

from collections.abc import Mapping
from typing import Final, NamedTuple

_READING: Final = "multi exec get zrange"


class CacheRights(NamedTuple):
    """The keys that a login may use, as a pattern of Redis, and the commands that it may call."""

    keys: str
    commands: str

    def rule(self, login: str) -> str:
        """The command that gives a login these rights and no others. Its passwords stay as they are."""
        commands = " ".join(f"+{command}" for command in self.commands.split())
        return f"ACL SETUSER {login} on resetkeys resetchannels -@all {self.keys} {commands}"


CACHE_RIGHTS: Final[Mapping[str, CacheRights]] = {
    "worker": CacheRights(
        "~ct:*", "evalsha script|load get set del exists zadd zcard zrange zrem zremrangebylex zremrangebyrank"
    ),
    "reader": CacheRights("%R~ct:*", _READING),
    "filler": CacheRights("~ct:*", f"{_READING} evalsha script|load zadd del expire"),
    "operator": CacheRights("%R~ct:*", f"{_READING} scan"),
}
