"""The ledger for asyncio: the same ledger, whose waits are awaited.

    async with await AsyncLedger.connect() as ledger:
        receipt = await ledger.append(event)
        await receipt.outcome(timeout=5)

Nothing is done twice: appending and reading are those of `Ledger`, and the threads that serve it set the futures.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Concatenate, Final, ParamSpec, Self, TypeVar

from core_tables.producer.act import KnownOfOrder, NowNs
from core_tables.producer.async_receipt import AsyncReceipt, AsyncWorkOrderHandle
from core_tables.producer.due_work import DueWork
from core_tables.producer.ledger import Ledger
from core_tables.producer.ledger_settings import LedgerSettings
from core_tables.producer.order_memory import OrderMemory
from core_tables.producer.record_wait import RecordWait
from core_tables.producer.settling import Settling
from core_tables.projection.postgres.forks import reset_after_fork
from core_tables.projection.postgres.read_pool import POOL_SIZE
from core_tables.projection.postgres.read_types import CurrentRecord
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.postgres.tenant_reads import Page
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.vocabulary import WorkOrderStatus

_SOME: Final = 100  # which a thread reads at once
_P = ParamSpec("_P")
_T = TypeVar("_T")


class AsyncLedger:
    """Appends events and reads what became of them, for programs that use asyncio. Any number of tasks and loops share it.

    It takes two threads more than a `Ledger`, however many await, and up to four more for reads. A wait that is cancelled
    leaves the others as they are; what was appended stays appended.
    """

    def __init__(self, ledger: Ledger) -> None:
        """For a ledger that is connected already."""
        self._ledger = ledger
        self._settling = Settling(ledger)
        self.after_fork()
        reset_after_fork(self)

    @classmethod
    async def connect(
        cls, settings: LedgerSettings | None = None, log: logging.Logger | None = None, *, clock: NowNs = time.time_ns
    ) -> "AsyncLedger":
        """Open the connections, as `Ledger.connect` does. `async with await AsyncLedger.connect() as ledger:` closes it."""
        return cls(await asyncio.to_thread(Ledger.connect, settings, log, clock=clock))

    async def append(self, event: LedgerEvent, *, traceparent: str | None = None) -> AsyncReceipt:
        """Queue an event for the ledger, as `Ledger.append` does. Only while the client's queue is full does it wait."""
        receipt = self._ledger.try_append(event, traceparent=traceparent)
        if receipt is None:
            receipt = await self._in_a_thread(partial(self._ledger.append, event, traceparent=traceparent))
        return AsyncReceipt(receipt, self._settling)

    def work_order(
        self,
        tenant_id: str,
        work_order_id: str,
        *,
        correlation_id: int | None = None,
        turn_id: int | None = None,
        status: WorkOrderStatus | None = None,
        reason_code: int | None = None,
    ) -> AsyncWorkOrderHandle:
        """A work order to act on, as `Ledger.work_order` gives one. Its acts are awaited."""
        known = KnownOfOrder(correlation_id, turn_id, status)
        return AsyncWorkOrderHandle(self, OrderMemory(tenant_id, work_order_id, known, reason_code, self._ledger.clock))

    async def read(self, ask: Callable[Concatenate[Reads, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What a read answers: `await ledger.read(Reads.current, "acme", "order-1")`.

        At most four reads are asked at a time, and the others wait. One that is cancelled still ends by itself.
        """
        return await self._in_a_thread(partial(ask, self._ledger.reads(), *args, **kwargs))

    async def current(self, tenant_id: str, work_order_id: str, timeout: float = 5.0) -> CurrentRecord | None:
        """The current record, as `Ledger.current` gives it."""
        return await self._in_a_thread(partial(self._ledger.current, tenant_id, work_order_id, timeout))

    async def wait_until(
        self, tenant_id: str, work_order_id: str, holds: Callable[[CurrentRecord], bool], timeout: float
    ) -> CurrentRecord | None:
        """Wait until something holds of a current record, as `Ledger.wait_until` does. No thread waits meanwhile."""
        deadline = time.monotonic() + timeout
        begin = partial(RecordWait, self._ledger.reads(), tenant_id, work_order_id, holds, deadline)
        wait = await self._in_a_thread(begin)
        while not await self._in_a_thread(wait.look):
            wait.folded(await self._settling.folded(wait.lane, wait.applied + 1, wait.next_look))
        return wait.found

    async def wait_for_status(
        self, tenant_id: str, work_order_id: str, statuses: Collection[WorkOrderStatus], timeout: float
    ) -> CurrentRecord | None:
        """Wait until a work order has one of some statuses, as `wait_until` does."""
        return await self.wait_until(
            tenant_id, work_order_id, lambda record: record.work_order_status in statuses, timeout
        )

    async def all(
        self, ask: Callable[Concatenate[Reads, _P], Page[_T]], *args: _P.args, **kwargs: _P.kwargs
    ) -> AsyncIterator[_T]:
        """What a read finds on all of its pages: `async for retry in ledger.all(Reads.due_retries, "acme", now)`."""
        page = await self.read(ask, *args, **kwargs)
        while page:
            for item in page:
                yield item
            page = await self._in_a_thread(page.following)

    async def due(self, now: int) -> AsyncIterator[DueWork]:
        """Everything that is due at `now` (ns), as `Ledger.due` gives it."""
        found = self._ledger.due(now)
        while some := await self._in_a_thread(lambda: list(islice(found, _SOME))):
            for each in some:
                yield each

    @property
    def clock(self) -> NowNs:
        """What gives the `created_at` of acts, in nanoseconds since 1970."""
        return self._ledger.clock

    async def close(self) -> None:
        """Flush, then close the connections. Who still awaits an outcome gets ClosedError."""
        await asyncio.to_thread(self._settling.close)
        await asyncio.to_thread(self._ledger.close)
        self._pool.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def after_fork(self) -> None:
        """Start over in a child process, which has none of the threads."""
        self._settling.begin()
        self._pool = ThreadPoolExecutor(POOL_SIZE, "core-tables reads")

    async def _in_a_thread(self, work: Callable[[], _T]) -> _T:
        context = contextvars.copy_context()  # which holds the current span
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(context.run, work))
