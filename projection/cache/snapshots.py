"""Reads of a lane's label and of lists as of one moment, in one round trip and without a script.

The commands are a transaction, which a login that may only read can run, too, and so can a replica. redis-py opens the connections:
address, login, encryption and timeouts are its own. Its pipelines take several times as long as all else of such a read.
"""

import os
from collections.abc import Sequence
from typing import Any, Final

import redis

_MULTI: Final = b"*1\r\n$5\r\nMULTI\r\n"
_EXEC: Final = b"*1\r\n$4\r\nEXEC\r\n"
_MOST_IDLE: Final = 64

Snapshot = tuple[object, list[list[bytes]]]  # the value of a label, and the members of lists


class Snapshots:
    """Thread-safe; a process that was forked opens connections of its own."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._idle: list[Any] = []
        self._process = os.getpid()

    def take(self, label: bytes, lists: Sequence[bytes], most: int) -> Snapshot:
        """The value of a label, or None, and the first `most` members of sorted sets (all, if it is 0), as they are at one moment.

        What is of another type counts as missing. Raises redis.RedisError and OSError.
        """
        end = b"%d" % (most - 1)
        asked = [_MULTI, _packed(b"GET", label), *(_packed(b"ZRANGE", name, b"0", end) for name in lists), _EXEC]
        try:
            replies = self._ask(self._connection(), asked)
        except redis.ConnectionError:
            # The server may have closed one that was idle: only what a new connection says counts.
            self._drop_idle()
            replies = self._ask(self._connection(), asked)
        value, *members = replies[-1]
        return value, [found if isinstance(found, list) else [] for found in members]

    def _ask(self, connection: Any, asked: Sequence[bytes]) -> list[Any]:
        try:
            connection.send_packed_command([b"".join(asked)], check_health=False)
            replies = [connection.read_response() for _ in asked]
        except BaseException:  # an interrupt, too: nobody knows which reply would come next
            connection.disconnect()
            self._pool.release(connection)
            raise
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(connection)
        else:
            self._pool.release(connection)
        return replies

    def _connection(self) -> Any:
        if self._process != os.getpid():
            self._idle, self._process = [], os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self._pool.get_connection()

    def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.disconnect()
            self._pool.release(connection)


def _packed(*words: bytes) -> bytes:
    return b"*%d\r\n%s" % (len(words), b"".join([b"$%d\r\n%s\r\n" % (len(word), word) for word in words]))
