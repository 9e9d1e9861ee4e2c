"""The Redis cache of pending lists: a label per lane, and the newest entries of the lists that readers have asked for.

Losing any key costs a miss, never a wrong answer. The keys of a lane share a hash tag, so that a script or a transaction uses one
slot of a cluster. If Redis does not answer within 50 ms, it is not asked again for 0.1 s, and if it fails again, for twice as long,
up to 5 s.
"""

import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import redis

from core_tables.projection.cache.entries import entry_of, key_of, members, newest, records_of, split
from core_tables.projection.cache.scripts import lua
from core_tables.projection.cache.snapshots import Snapshot, Snapshots
from core_tables.projection.fold.pending import PendingQuery, PendingRecord, is_pending, pending_record
from core_tables.projection.fold.values import WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.schemas.identity import lane_of
from core_tables.schemas.reasons import CoreTablesError
from core_tables.schemas.vocabulary import PENDING_STATUSES

TIMEOUT_S: Final = 0.05
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
LIST_TTL_S: Final = 3600
MAX_OPS: Final = 1000
# Of each status: a list that is longer is cut to what is kept, which is more than any query asks for.
MOST_ENTRIES: Final = 256
KEPT_ENTRIES: Final = 128
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
_NOTHING: Final[Snapshot] = (None, [])

Op = tuple[str, bytes, bytes]  # a list, the key of the entry that leaves it, and the entry that is added; b"" for none
T = TypeVar("T")


class CacheMove(NamedTuple):
    """The changes that a batch makes to the lists of a lane."""

    lane: int
    epoch: int
    from_position: int
    to_position: int
    ops: Sequence[Op]


class CachedList(NamedTuple):
    """What the cache has: the label of a lane, and what answers a query at its position. Either is None if it is not there."""

    label: str | None
    records: list[PendingRecord] | None

    @property
    def position(self) -> int | None:
        """The offset at which the list is true."""
        return None if self.label is None else int(self.label.rpartition(":")[2])

    def labelled(self, epoch: int, position: int) -> bool:
        """Whether an answer of Postgres at an epoch and a position of the lane may be stored under this label."""
        return self.label is not None and self.position == position and self.label.partition(".")[0] == str(epoch)


class StoredList(NamedTuple):
    """What the cache has of one list: the label of its lane, and its entries, their records and its marker.

    Without a label or a list, or if the list is not as this module writes it, `records` is None.
    """

    label: str | None
    records: list[PendingRecord] | None = None
    entries: Sequence[bytes] = ()
    marker: bytes = b""


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


def connect_cache(url: Callable[[], str], timeout_s: float = TIMEOUT_S) -> redis.Redis:
    """A client that waits for an answer for `timeout_s`. It does not connect yet.

    Each connection takes the current password from `url`.
    """
    address = url()
    given: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    place = urlsplit(address).netloc
    if "@" in place:
        given["credential_provider"] = _CurrentPassword(url)
        address = address.replace(place, place.rpartition("@")[2], 1)
    return redis.Redis.from_url(address, **given)


def list_name(status: str, tenant_id: str, requester_user_id: str) -> str:
    """The name of a list within its lane. The length makes it unique, whatever the two ids contain."""
    return f"{status}:{len(tenant_id)}:{tenant_id}:{requester_user_id}"


def cache_ops(changed: Iterable[tuple[WorkOrder | None, WorkOrder]]) -> dict[int, list[Op]]:
    """The changes to the lists by a batch, by lane."""
    ops: dict[int, list[Op]] = {}
    for before, after in changed:
        tenant_id, requester = after.identity.tenant_id, after.origin.requester_user_id
        if requester is None:
            continue
        of_lane = ops.setdefault(lane_of(after.last.last_event_id), [])
        record, left, leaves = pending_record(after), "", b""
        if before is not None and is_pending(before):
            left, leaves = (
                before.last.work_order_status,
                key_of(before.last.last_updated_at, after.identity.work_order_id),
            )
        if leaves and (record is None or record.work_order_status != left):
            of_lane.append((list_name(left, tenant_id, requester), leaves, b""))
            leaves = b""
        if record is not None:
            of_lane.append((list_name(record.work_order_status, tenant_id, requester), leaves, entry_of(record)))
    return ops


class PendingCache:
    """The lists in Redis. No method raises if Redis fails; `failed` is the error of the last call, or None.

    `moves`: how many labels were moved, were ahead already, or were renewed, which forgets the lists of their lane; `failures`: how
    many calls failed.
    """

    longest = MOST_ENTRIES
    kept = KEPT_ENTRIES

    def __init__(self, client: redis.Redis, topic_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`topic_id` is part of every key, so that two ledgers, whose lanes have the same numbers, can share a Redis."""
        self._client = client
        self._snapshots = Snapshots(client)
        self._topic_id = topic_id
        self._clock = clock
        self._advance: Any = client.register_script(lua("advance"))
        self._fill: Any = client.register_script(lua("fill"))
        self._nonces: dict[int, str] = {}  # by lane, as they were last seen: the names of lists begin with them
        self._skip_until = self._pause_s = 0.0
        self.may_fill = True
        self.failed: str | None = None
        self.moves = {"moved": 0, "ahead": 0, "renewed": 0}
        self.failures = 0

    def advance(self, moves: Sequence[CacheMove]) -> None:
        """Move the labels and lists of lanes after a commit, in one round trip."""
        if moves:
            self._try(lambda: self._advance_lanes(moves), None)

    def read(self, lane: int, query: PendingQuery) -> CachedList:
        """The label of a lane, and what answers a query at its position, if the lists reach that far."""
        of = query.tenant_id, query.requester_user_id
        names = [list_name(status, *of) for status in sorted(query.status_set)]
        label, lists = self._snapshot(lane, names, query.top_n)
        return CachedList(label, None if lists is None else newest(lists, query))

    def read_list(self, lane: int, name: str) -> StoredList:
        """All of a list, by its name."""
        label, lists = self._snapshot(lane, [name], 0)
        parts = split(lists[0]) if lists else None
        if parts is None:
            return StoredList(label)
        entries, marker = parts
        return StoredList(label, records_of(entries), entries, marker)

    def list_names(self, lane: int, label: str) -> list[str]:
        """The names of the lists that a lane has under the nonce of a label."""
        prefix = f"{self._prefix(lane)}{label.rpartition(':')[0]}:"
        keys: Any = self._try(lambda: list(self._client.scan_iter(match=prefix + "*", count=1000)), [])
        return sorted(key.decode()[len(prefix) :] for key in keys)

    def fill(self, label: str, lane: int, key: WorkOrderKey, records: Sequence[PendingRecord]) -> None:
        """Store the lists of `key` (tenant, requester) as Postgres has them, if the lane is still at `label`.

        `records` are the newest of each status, in order: all of them, or one more than are kept. A program whose login may only
        read leaves it to others.
        """
        if not self.may_fill:
            return
        nonce = label.rpartition(":")[0]
        keys, values = [self._label(lane)], list[Any]([label, LIST_TTL_S])
        for status in sorted(PENDING_STATUSES):
            listed = members([record for record in records if record.work_order_status == status], self.kept)
            keys.append(f"{self._prefix(lane)}{nonce}:{list_name(status, *key)}")
            values += [len(listed), *listed]
        self._try(lambda: self._fill_if_allowed(keys, values), None)

    def forget(self, lane: int) -> None:
        """Delete the label of a lane; without it, no list of the lane is read any more."""
        self._try(lambda: self._client.delete(self._label(lane)), None)

    def label(self, lane: int) -> str | None:
        """The label of a lane: `epoch.random:position`. What is before the colon is its nonce."""
        value: Any = self._try(lambda: self._client.get(self._label(lane)), None)
        return None if value is None else str(value, "utf-8")

    def _snapshot(self, lane: int, names: Sequence[str], most: int) -> tuple[str | None, list[list[bytes]] | None]:
        """The label of a lane, and under its nonce the first members of lists (all, if `most` is 0), as of one moment.

        The nonce is the one seen last. If there is another by now, the lists are asked for again under that.
        """
        for _ in range(2):
            nonce = self._nonces.get(lane, "")
            keys = [f"{self._prefix(lane)}{nonce}:{name}".encode() for name in names]
            value, lists = self._try(partial(self._snapshots.take, self._label(lane).encode(), keys, most), _NOTHING)
            if not isinstance(value, bytes) or not _LABEL.fullmatch(value):
                break
            label = value.decode()
            current = label.rpartition(":")[0]
            if current == nonce:
                return label, lists
            self._nonces[lane] = current
        else:
            return label, None
        return None, None

    def _fill_if_allowed(self, keys: list[str], values: list[Any]) -> None:
        try:
            self._fill(keys=keys, args=values)
        except redis.exceptions.NoPermissionError:
            self.may_fill = False

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
            label, limits = self._label(move.lane), (self.longest, self.kept)
            together.evalsha(self._advance.sha, 1, label, start, move.to_position, nonce, *limits, *flat)
        for result in together.execute():
            self.moves[str(result, "ascii")] += 1

    def _prefix(self, lane: int) -> str:
        # The number is that of the form of lists: programs with another have a label of their own.
        return f"ct:2:{{{self._topic_id}.{lane}}}:"

    def _label(self, lane: int) -> str:
        return self._prefix(lane) + "at"

    def _try(self, call: Callable[[], T], otherwise: T) -> T:
        begun = self._clock()
        if begun < self._skip_until:
            return otherwise
        try:
            answer = call()
        except (redis.RedisError, OSError) as error:
            self.failed = _NO_CLUSTER if isinstance(error, _OF_A_CLUSTER) else str(error) or type(error).__name__
            if begun >= self._skip_until:  # else another thread has met the same trouble
                self._pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * self._pause_s))
                self._skip_until = self._clock() + self._pause_s
            self.failures += 1
            return otherwise
        self.failed = None
        self._pause_s = 0.0
        return answer
