"""A load that does not stop: events each second, and how long their outcomes took, by what happened meanwhile."""

import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Self

from core_tables import AsyncLedger, LedgerSettings
from core_tables.schemas.events import LedgerEvent
from tests.builders import day
from tests.world import World

PER_SECOND: Final = 20
OUTCOME_S: Final = 240.0


class Load:
    """Appends PER_SECOND events each second while its block runs, and waits for the outcome of each."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ended = threading.Event()
        self._phase = ""
        self.appended = 0
        self.seconds: dict[str, list[float]] = {}  # from append to outcome, by the phase in which it was appended

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(1)
        self._running: Future[None] = self._pool.submit(lambda: asyncio.run(self._append()))
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._pool.shutdown()
        if failed is None:
            self._running.result()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What happens while the block runs."""
        self._phase = name
        self.seconds[name] = []
        yield

    def check(self) -> None:
        """Raise what it failed with, if it did."""
        if self._running.done():
            self._running.result()

    def report(self) -> list[str]:
        """By phase, how long outcomes took."""
        return [
            f"{phase:<42} appends {len(times):>5}   outcome p50 {statistics.median(times):6.2f} s   "
            f"p99 {statistics.quantiles(times, n=100)[98]:6.2f} s   max {max(times):6.2f} s"
            for phase, times in self.seconds.items()
            if len(times) > 1
        ]

    async def _append(self) -> None:
        settings = self._world.settings
        where = LedgerSettings(settings.kafka_servers(), settings.reader(), settings.topic)
        async with await AsyncLedger.connect(where) as ledger, asyncio.TaskGroup() as waiting:
            while not self._ended.is_set():
                begun = time.monotonic()
                for event in day(PER_SECOND, seed=self.appended + 1):
                    waiting.create_task(self._append_one(ledger, event, self._phase))
                self.appended += PER_SECOND
                # The pace of the load, not a wait for something.
                await asyncio.to_thread(self._ended.wait, max(0.0, begun + 1 - time.monotonic()))

    async def _append_one(self, ledger: AsyncLedger, event: LedgerEvent, phase: str) -> None:
        begun = time.monotonic()
        receipt = await ledger.append(event)
        event_id = await receipt.event_id()
        known = self._world.acknowledged.setdefault(event_id, event)
        assert known is event, f"two appends were acknowledged as {event_id}"
        outcome = await receipt.outcome(OUTCOME_S)
        assert outcome is not None, f"the outcome of {event_id} is still pending after {OUTCOME_S:.0f} s, in: {phase}"
        self.seconds[phase].append(time.monotonic() - begun)
