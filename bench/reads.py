"""Reads: current by id, and pending lists from the cache and from Postgres, with many clients at once."""

import multiprocessing
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from bench import events, pacing, place, stocked
from bench.measure import StackCpu
from bench.measure import load as load_average
from bench.pacing import Spread
from core_tables.cli import wiring
from core_tables.projection.cache.pending_cache import CacheMove
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.connection import connect
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.reads import Reads
from core_tables.settings.environment import Settings

Kind = Literal["current", "pending, cache", "pending, postgres"]
KINDS: Final[tuple[Kind, ...]] = ("current", "pending, cache", "pending, postgres")
CLIENTS: Final = (1, 16, 64)
PROCESSES: Final = 2  # at most, for the clients' threads: one for each core of a small machine
LISTS: Final = 200  # requesters whose lists are read
WARM_S: Final = 0.3
NOW: Final = events.START + 1_000_000_000


class Read(NamedTuple):
    """One run.

    `found` is the mean number of records in an answer, `from_cache` the share of answers from the cache. The CPU of Postgres is per
    read.
    """

    kind: Kind
    open_orders: int
    clients: int
    spread: Spread
    reads_per_s: float
    found: float
    from_cache: float
    postgres_us: float
    load: float

    def __str__(self) -> str:
        what = f"{self.kind}, {self.open_orders:,} open, {self.clients} clients"
        return f"{what}: {self.reads_per_s:,.0f}/s, p99 {self.spread.p99_ms:.1f} ms"


class Task(NamedTuple):
    """What the clients of a process do; one in `one_in` of the inserted work orders is open."""

    settings: Settings
    kind: Kind
    orders: int
    one_in: int
    seconds: float


def measure(
    settings: Settings, folder: Path, sizes: Sequence[int], clients: Sequence[int], seconds: float
) -> Iterator[Read]:
    """One round over the sizes, each in its own tables, with no worker: only reading is measured."""
    for size in sizes:
        with place.tables(settings) as made:
            stocked.open_orders(made, size)
            for count in clients:
                for kind in KINDS:
                    label_lanes(made)
                    yield read(Task(made, kind, size, 1, seconds), count, folder)


def label_lanes(settings: Settings) -> None:
    """Write the lanes' positions into the cache, as an idle worker does every second: a position expires after 15 s."""
    connection = connect(settings.operator(), name="benchmark")
    cache = wiring.cache(settings, connection)
    if cache is not None:
        positions = wiring.positions(settings, connection)
        cache.advance([CacheMove(lane, p.epoch, p.applied, p.applied, ()) for lane, p in positions.items()])
    connection.close()


def read(task: Task, clients: int, folder: Path) -> Read:
    """Let clients read for some seconds, each with its own connection; the stack is in a folder."""
    context = multiprocessing.get_context("spawn")
    count = min(PROCESSES, clients)
    barrier, results = context.Barrier(count), context.SimpleQueue()
    shares = [clients // count + (number < clients % count) for number in range(count)]
    processes = [
        context.Process(target=_process, args=(task, share, number, barrier, results), daemon=True)
        for number, share in enumerate(shares)
    ]
    stack = StackCpu(folder)
    before = stack.read(())
    for process in processes:
        process.start()
    answers = [results.get() for _ in processes]
    used = stack.read(()).since(before)
    for process in processes:
        process.join()
    if failed := [result for result in answers if isinstance(result, str)]:
        raise RuntimeError(f"a reading client failed: {failed[0]}")
    took = [seconds for result in answers for seconds in result[0]]
    found, cached = (sum(result[at] for result in answers) / len(took) for at in (1, 2))
    # Connecting and warming up is in what Postgres used, but it is little next to the reads of some seconds.
    return Read(
        task.kind, task.orders // task.one_in, clients, pacing.spread(took), len(took) / task.seconds, found, cached,
        1e6 * used.postgres / len(took), load_average(),
    )  # fmt: skip


def _process(task: Task, clients: int, seed: int, barrier: Barrier, results: Any) -> None:
    """The clients of one process, as threads. What they found goes to `results`, or why they failed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    try:
        made = [Client(task, seed * 1000 + number) for number in range(clients)]
        barrier.wait(60)
        begins = time.monotonic() + WARM_S
        threads = [threading.Thread(target=client.run, args=(begins, begins + task.seconds)) for client in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed := [client.failed for client in made if client.failed is not None]:
            raise failed[0]
        took = [seconds for client in made for seconds in client.took]
        results.put((took, sum(client.found for client in made), sum(client.from_cache for client in made)))
    except Exception as error:
        barrier.abort()
        results.put(repr(error))


class Client:
    """Reads one record or list after another."""

    def __init__(self, task: Task, seed: int) -> None:
        settings = task.settings
        if task.kind == "pending, postgres":
            self._reads = Reads(ReadPool.connect(settings.reader(), "core-tables reads"))
        else:
            self._reads = wiring.reads(settings)
        self._chance = random.Random(seed)
        self._task = task
        self._read: Callable[[], tuple[int, bool]] = self._current if task.kind == "current" else self._pending
        self.took: list[float] = []
        self.found = self.from_cache = 0
        self.failed: Exception | None = None

    def run(self, begins: float, ends: float) -> None:
        """Read until the end; reads that start before the beginning are not counted."""
        try:
            while (started := time.monotonic()) < ends:
                found, from_cache = self._read()
                if started >= begins:
                    self.took.append(time.monotonic() - started)
                    self.found += found
                    self.from_cache += from_cache
            self._reads.close()
        except Exception as error:
            self.failed = error

    def _current(self) -> tuple[int, bool]:
        key = stocked.order(self._chance.randrange(self._task.orders))
        return int(self._reads.current(*key) is not None), False

    def _pending(self) -> tuple[int, bool]:
        key = stocked.requester(self._chance.randrange(LISTS), self._task.orders, self._task.one_in)
        answer = self._reads.pending(PendingQuery(*key, NOW, top_n=20))
        return len(answer.offers), answer.from_cache
