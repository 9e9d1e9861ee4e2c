"""The Redis cache of pending lists: a label per lane, and the lists that readers have asked for.

Losing any key costs a miss, never a wrong answer. The keys of a lane share a hash tag, so that a script uses one slot of a
cluster. If Redis does not answer within 50 ms, it is not asked again for 5 s.
"""

import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import redis
from msgspec import MsgspecError
from msgspec.json import Decoder, Encoder

from core_tables.projection.cache.scripts import lua
from core_tables.projection.fold.pending import PendingRecord, is_pending, pending_record
from core_tables.projection.fold.values import WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.schemas.identity import lane_of
from core_tables.schemas.reasons import CoreTablesError

TIMEOUT_S: Final = 0.05
PAUSE_S: Final = 5.0
LIST_TTL_S: Final = 3600
MAX_OPS: Final = 1000
MAX_LIST: Final = 256
SENTINEL: Final = b"-"
# A list is a hash, and Redis has no empty hashes. No work_order_id is empty, so this field can make an empty list exist.
SENTINEL_FIELD: Final = ""
# Any program may write to Redis; what is not as this module writes it counts as missing.
_LABEL: Final = re.compile(rb"\d+\.[0-9a-f]+:\d+")
_OF_A_CLUSTER: Final = (
    redis.exceptions.AskError,
    redis.exceptions.MovedError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.ClusterCrossSlotError,
)
_NO_CLUSTER: Final = (
    "this Redis is a node of a cluster, which is not supported; set CORE_TABLES_REDIS_URL to a single Redis, or to none"
)
_encode: Final = Encoder().encode
_decode: Final = Decoder(PendingRecord).decode

Op = tuple[str, str, bytes]  # name of the list, work_order_id, and the record; b"" removes it
T = TypeVar("T")


class CacheMove(NamedTuple):
    """The changes that a batch makes to the lists of a lane."""

    lane: int
    epoch: int
    from_position: int
    to_position: int
    ops: Sequence[Op]


class CachedList(NamedTuple):
    """What the cache has: the label of a lane, and a list at the position of the label. Either is None if it is not there."""

    label: str | None
    records: list[PendingRecord] | None

    @property
    def position(self) -> int | None:
        """The offset at which the list is true."""
        return None if self.label is None else int(self.label.rpartition(":")[2])

    def labelled(self, epoch: int, position: int) -> bool:
        """Whether an answer of Postgres at an epoch and a position of the lane may be stored under this label."""
        return self.label is not None and self.position == position and self.label.partition(".")[0] == str(epoch)


class _CurrentPassword(redis.CredentialProvider):
    """Name and password as the URL has them now."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Asked by each new connection. Raises redis.AuthenticationError: without a cache, nothing may fail."""
        try:
            given = redis.connection.parse_url(self._url())  # type: ignore[no-untyped-call]
        except (CoreTablesError, ValueError) as error:
            why = error.message if isinstance(error, CoreTablesError) else "its address is not one of Redis any more"
            raise redis.AuthenticationError(why) from None
        username, password = given.get("username"), given.get("password", "")
        return (password,) if username is None else (username, password)


def connect_cache(url: Callable[[], str]) -> redis.Redis:
    """A client with a timeout of 50 ms. It does not connect yet. Each connection takes the current password from `url`."""
    address = url()
    given: dict[str, Any] = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
    place = urlsplit(address).netloc
    if "@" in place:
        given["credential_provider"] = _CurrentPassword(url)
        address = address.replace(place, place.rpartition("@")[2], 1)
    return redis.Redis.from_url(address, **given)


def list_name(tenant_id: str, requester_user_id: str) -> str:
    """The name of a requester's list within its lane. The length makes it unique, whatever the two ids contain."""
    return f"{len(tenant_id)}:{tenant_id}:{requester_user_id}"


def cache_ops(changed: Iterable[tuple[WorkOrder | None, WorkOrder]]) -> dict[int, list[Op]]:
    """The changes to the lists by a batch, by lane."""
    ops: dict[int, list[Op]] = {}
    for before, after in changed:
        requester = after.origin.requester_user_id
        if requester is None:
            continue
        record = pending_record(after)
        if record is None and before is not None and not is_pending(before):
            continue
        name = list_name(after.identity.tenant_id, requester)
        value = b"" if record is None else _encode(record)
        ops.setdefault(lane_of(after.last.last_event_id), []).append((name, after.identity.work_order_id, value))
    return ops


class PendingCache:
    """The lists in Redis. No method raises if Redis fails; `failed` is the error of the last call, or None."""

    def __init__(self, client: redis.Redis, topic_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`topic_id` is part of every key, so that two ledgers, whose lanes have the same numbers, can share a Redis."""
        self._client = client
        self._topic_id = topic_id
        self._clock = clock
        self._advance: Any = client.register_script(lua("advance"))
        self._fill: Any = client.register_script(lua("fill"))
        self._read: Any = client.register_script(lua("read"))
        self._may_fill = True
        self._skip_until = 0.0
        self.failed: str | None = None

    def advance(self, moves: Sequence[CacheMove]) -> None:
        """Move the labels and lists of lanes after a commit, in one round trip."""
        if moves:
            self._try(lambda: self._advance_lanes(moves), None)

    def read(self, lane: int, tenant_id: str, requester_user_id: str) -> CachedList:
        """The label of a lane and a requester's list."""
        return self.read_list(lane, list_name(tenant_id, requester_user_id))

    def read_list(self, lane: int, name: str) -> CachedList:
        """Like `read`, with the name of the list."""
        answer: Any = self._try(lambda: self._read_only(self._label(lane), name), None)
        stored_label, values = answer or (None, [])
        if not isinstance(stored_label, bytes) or not _LABEL.fullmatch(stored_label):
            return CachedList(None, None)
        label = stored_label.decode()
        if SENTINEL not in values:
            return CachedList(label, None)
        try:
            return CachedList(label, [_decode(value) for value in values if value != SENTINEL])
        except (MsgspecError, UnicodeDecodeError):
            return CachedList(label, None)

    def list_names(self, lane: int, label: str) -> list[str]:
        """The names of the lists that a lane has under the nonce of a label."""
        prefix = f"{self._prefix(lane)}{label.rpartition(':')[0]}:"
        keys: Any = self._try(lambda: list(self._client.scan_iter(match=prefix + "*", count=1000)), [])
        return sorted(key.decode()[len(prefix) :] for key in keys)

    def fill(self, label: str, lane: int, key: WorkOrderKey, records: Sequence[PendingRecord]) -> None:
        """Store the list of `key` (tenant, requester) as Postgres has it, if the lane is still at `label`.

        A program whose login may only read leaves it to others.
        """
        if len(records) > MAX_LIST or not self._may_fill:
            return
        nonce = label.rpartition(":")[0]
        pairs: list[str | bytes] = [SENTINEL_FIELD, SENTINEL]
        for record in records:
            pairs += [record.work_order_id, _encode(record)]
        keys = [self._label(lane), f"{self._prefix(lane)}{nonce}:{list_name(*key)}"]
        self._try(lambda: self._fill_if_allowed(keys, [label, LIST_TTL_S, *pairs]), None)

    def forget(self, lane: int) -> None:
        """Delete the label of a lane; without it, no list of the lane is read any more."""
        self._try(lambda: self._client.delete(self._label(lane)), None)

    def label(self, lane: int) -> str | None:
        """The label of a lane: `epoch.random:position`. What is before the colon is its nonce."""
        value: Any = self._try(lambda: self._client.get(self._label(lane)), None)
        return None if value is None else str(value, "utf-8")

    def _read_only(self, label: str, name: str) -> object:
        """Run the script of reads in a way that cannot write, so that a login without the right to write can call it."""
        try:
            return self._client.evalsha_ro(self._read.sha, 1, label, name)
        except redis.exceptions.NoScriptError:
            return self._client.eval_ro(lua("read"), 1, label, name)

    def _fill_if_allowed(self, keys: list[str], values: list[Any]) -> None:
        try:
            self._fill(keys=keys, args=values)
        except redis.exceptions.NoPermissionError:
            self._may_fill = False

    def _advance_lanes(self, moves: Sequence[CacheMove]) -> None:
        try:
            self._run_advance(moves)
        except redis.exceptions.NoScriptError:
            # redis-py would ask first whether it has been loaded: a round trip for each batch.
            self._client.script_load(lua("advance"))
            self._run_advance(moves)

    def _run_advance(self, moves: Sequence[CacheMove]) -> None:
        together = self._client.pipeline(transaction=False)
        for move in moves:
            too_many = len(move.ops) > MAX_OPS
            flat = () if too_many else [part for op in move.ops for part in op]
            nonce = f"{move.epoch}.{secrets.token_hex(6)}"
            start = -1 if too_many else move.from_position  # no label is at -1, so the script uses the new nonce
            together.evalsha(self._advance.sha, 1, self._label(move.lane), start, move.to_position, nonce, *flat)
        together.execute()

    def _prefix(self, lane: int) -> str:
        return f"ct:{{{self._topic_id}.{lane}}}:"

    def _label(self, lane: int) -> str:
        return self._prefix(lane) + "at"

    def _try(self, call: Callable[[], T], otherwise: T) -> T:
        if self._clock() < self._skip_until:
            return otherwise
        try:
            answer = call()
        except (redis.RedisError, OSError) as error:
            self.failed = _NO_CLUSTER if isinstance(error, _OF_A_CLUSTER) else str(error) or type(error).__name__
            self._skip_until = self._clock() + PAUSE_S
            return otherwise
        self.failed = None
        return answer
