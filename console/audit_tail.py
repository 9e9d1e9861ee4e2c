"""The newest outcomes, from the audit topic, for all browsers that follow them.

However many browsers there are, one thread reads the topic, and only while somebody follows. It hands what it reads to
subscriptions, each in the event loop of its own. A record is decoded when it is first shown.
"""

import asyncio
import contextlib
import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import cached_property
from typing import Final

from confluent_kafka import Message

from core_tables.kafka.log import TopicReader
from core_tables.schemas.audit import decode_audit
from core_tables.schemas.events import AuditEvent
from core_tables.schemas.reasons import CoreTablesError

REMEMBERED: Final = 2_000
_IDLE_S: Final = 30.0
_PAUSE_S: Final = 1.0
_WAITING_BATCHES: Final = 64


class FedRecord:
    """A record of the audit topic."""

    def __init__(self, message: Message) -> None:
        self.tenant_id = (message.key() or b"").decode("utf-8", "replace")
        self._value = message.value() or b""
        _, self.written_at = message.timestamp()

    @cached_property
    def event(self) -> AuditEvent | None:
        """The outcome; None if this release cannot read it."""
        try:
            return decode_audit(self._value)
        except Exception:  # the decoder has many errors
            return None


class Subscription:
    """What one browser is to be sent. `offer` and the queue belong to its event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[list[FedRecord]] = asyncio.Queue(_WAITING_BATCHES)
        self.left_out = 0

    def hand_over(self, batch: list[FedRecord]) -> None:
        """Give it a batch from another thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the browser with it
            self._loop.call_soon_threadsafe(self._offer, batch)

    def _offer(self, batch: list[FedRecord]) -> None:
        try:
            self.queue.put_nowait(batch)
        except asyncio.QueueFull:
            self.left_out += len(batch)


class AuditFeed:
    """Reads the audit topic for its subscriptions. Thread-safe."""

    def __init__(self, open_reader: Callable[[], TopicReader], partitions: Callable[[], int]) -> None:
        self._open_reader = open_reader
        self._partitions = partitions
        self._lock = threading.Lock()
        self._subscriptions: set[Subscription] = set()
        self._newest: deque[FedRecord] = deque(maxlen=REMEMBERED)
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self.failure: str | None = None  # why nothing comes, if something is down

    def subscribe(self) -> tuple[Subscription, list[FedRecord]]:
        """A new subscription, and the records before it that are remembered, oldest first."""
        made = Subscription()
        with self._lock:
            self._subscriptions.add(made)
            if self._thread is None:
                self._newest.clear()
                self._thread = threading.Thread(target=self._run, name="core-tables audit feed", daemon=True)
                self._thread.start()
            return made, list(self._newest)

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""
        with self._lock:
            self._subscriptions.discard(subscription)

    @property
    def followers(self) -> int:
        """How many subscriptions there are."""
        return len(self._subscriptions)

    def close(self) -> None:
        """End the thread, and wait for it."""
        self._closed.set()
        thread = self._thread
        if thread is not None:
            thread.join(5)

    def _run(self) -> None:
        positions: dict[int, int] = {}
        while not self._closed.is_set():
            try:
                with closing(self._open_reader()) as reader:
                    self._follow(reader, positions)
                return
            except CoreTablesError as error:
                self.failure = error.message
            if not self._subscriptions and self._ended():
                return
            self._closed.wait(_PAUSE_S)

    def _follow(self, reader: TopicReader, positions: dict[int, int]) -> None:
        """Read to the ends, then what comes, until nobody has followed for a while."""
        if not positions:
            positions.update(self._starts(reader))
            by_partition = _by_partition(reader.records(positions), positions)
            self._publish(list(heapq.merge(*by_partition, key=lambda record: record.written_at)))
        else:
            for batch in reader.batches(positions):
                self._publish(_noted(batch, positions))
        self.failure = None
        last_followed = time.monotonic()
        for batch in reader.follow():
            self._publish(_noted(batch, positions))
            if self._subscriptions:
                last_followed = time.monotonic()
            elif time.monotonic() - last_followed > _IDLE_S and self._ended():
                return
            if self._closed.is_set():
                return

    def _starts(self, reader: TopicReader) -> dict[int, int]:
        partitions = range(self._partitions())
        bounds = {partition: reader.bounds(partition) for partition in partitions}
        # Every transaction ends with a marker that takes an offset too.
        return {partition: max(low, high - REMEMBERED // 4) for partition, (low, high) in bounds.items()}

    def _publish(self, batch: list[FedRecord]) -> None:
        if not batch:
            return
        with self._lock:
            self._newest.extend(batch)
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.hand_over(batch)

    def _ended(self) -> bool:
        """Whether the thread may end: nobody has subscribed meanwhile."""
        with self._lock:
            if self._subscriptions:
                return False
            self._thread = None
            return True


def _noted(messages: Iterable[Message], positions: dict[int, int]) -> list[FedRecord]:
    """The records of messages; where to continue after them is noted."""
    records = []
    for message in messages:
        positions[message.partition() or 0] = (message.offset() or 0) + 1
        if message.value() is not None:
            records.append(FedRecord(message))
    return records


def _by_partition(messages: Iterable[Message], positions: dict[int, int]) -> list[list[FedRecord]]:
    found: dict[int, list[FedRecord]] = {}
    for message in messages:
        found.setdefault(message.partition() or 0, []).extend(_noted([message], positions))
    return list(found.values())
