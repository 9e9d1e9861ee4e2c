"""Delivery reports and outcomes for those who await them in event loops: two threads for all of them, however many."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from core_tables.producer.receipt import Receipt
from core_tables.producer.waiter import OutcomeWaiter
from core_tables.schemas.outcomes import Outcome
from core_tables.schemas.reasons import ClosedError, CoreTablesError, UnavailableError

# How long one look may take while Postgres does not answer, so that a wait that began meanwhile ends by its own timeout.
_ROUND_S: Final = 0.25
_JOIN_S: Final = 2.0
_T = TypeVar("_T")


class Serving(Protocol):
    """What is asked of the ledger."""

    def wait_delivered(self, receipt: Receipt, deadline: float) -> bool: ...

    def outcome_waiter(self) -> OutcomeWaiter: ...


@dataclass(eq=False)
class _Wanted:
    """Somebody in an event loop who awaits the outcome of one record."""

    tenant_id: str
    event_id: int
    deadline: float
    answer: "Callable[[Outcome | None, CoreTablesError | None], None]"
    given_up: Callable[[], bool]


class Settling:
    """Sets futures of event loops. The threads start when they are first needed, and again in a forked process."""

    def __init__(self, ledger: Serving) -> None:
        self._ledger = ledger
        self.begin()

    def begin(self) -> None:
        """Start over: no thread runs, and nobody awaits anything."""
        self._changed = threading.Condition()
        self._undelivered: list[Receipt] = []
        self._arrived: list[_Wanted] = []
        self._closing = False
        self._threads: dict[str, threading.Thread] = {}

    async def delivered(self, receipt: Receipt, timeout: float) -> None:
        """Return when the broker has answered, or after `timeout` seconds."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        receipt.when_settled(lambda: _soon(loop, future, lambda: future.set_result(None)))
        with self._changed:
            self._require_open()
            self._undelivered.append(receipt)
            self._start("core-tables deliveries", self._serve)
            self._changed.notify_all()
        with suppress(TimeoutError):
            await asyncio.wait_for(future, timeout)

    async def outcome(self, tenant_id: str, event_id: int, timeout: float) -> Outcome | None:
        """The outcome of a record, or None if there is none yet after `timeout` seconds. Raises UnavailableError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome | None] = loop.create_future()

        def answer(outcome: Outcome | None, error: CoreTablesError | None) -> None:
            _soon(loop, future, lambda: future.set_result(outcome) if error is None else future.set_exception(error))

        wanted = _Wanted(tenant_id, event_id, time.monotonic() + timeout, answer, future.cancelled)
        with self._changed:
            self._require_open()
            self._arrived.append(wanted)
            self._start("core-tables outcomes", self._watch)
            self._changed.notify_all()
        self._ledger.outcome_waiter().wake()
        return await future

    async def folded(self, lane: int, end: int, until: float) -> int:
        """Return when a lane is folded up to `end`, or at `until` (monotonic seconds): how far it is known to be folded."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        waiter = self._ledger.outcome_waiter()
        wanted = waiter.when_folded(lane, end, lambda: _soon(loop, future, lambda: future.set_result(None)))
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(future, max(0.0, until - time.monotonic()))
        finally:
            waiter.forget(wanted)
        return waiter.applied(lane)

    def close(self) -> None:
        """End the threads. Who still awaits an outcome gets ClosedError."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads.values():
            thread.join(_JOIN_S)

    def _require_open(self) -> None:
        if self._closing:
            raise _closed()

    def _start(self, name: str, run: Callable[[], None]) -> None:
        if name not in self._threads:
            self._threads[name] = threading.Thread(target=run, name=name, daemon=True)
            self._threads[name].start()

    def _serve(self) -> None:
        """Serve delivery reports for as long as somebody awaits one. To serve one is to serve all."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._undelivered or self._closing)
                if self._closing:
                    return
                receipt = self._undelivered.pop()
            with suppress(CoreTablesError):  # the ledger is closed; who awaits the receipt learns it there
                while not receipt.delivered and not self._closing:
                    if not self._ledger.wait_delivered(receipt, time.monotonic() + _ROUND_S):
                        break

    def _watch(self) -> None:
        """Look for outcomes whenever a lane was folded further or somebody new awaits one."""
        waiting: list[_Wanted] = []
        while not self._closing:
            with self._changed:
                if not waiting:
                    self._changed.wait_for(self._is_interrupted)
                arrived, self._arrived = self._arrived, []
            waiting = [wanted for wanted in (*waiting, *arrived) if not wanted.given_up()]
            waiting = self._look(waiting, time.monotonic() + _ROUND_S)
        with self._changed:
            waiting += self._arrived
        for wanted in waiting:
            wanted.answer(None, _closed())

    def _look(self, waiting: Sequence[_Wanted], until: float) -> list[_Wanted]:
        """Wait until there is something to answer, but not beyond `until`, and answer it; return who is left."""
        if not waiting:
            return []
        deadline = min(until, *(wanted.deadline for wanted in waiting))
        by_tenant: dict[str, list[int]] = {}
        for wanted in waiting:
            by_tenant.setdefault(wanted.tenant_id, []).append(wanted.event_id)
        found: dict[int, Outcome] = {}
        error: CoreTablesError | None = None
        try:
            found = self._ledger.outcome_waiter().wait(by_tenant, deadline, interrupted=self._is_interrupted)
        except UnavailableError as unavailable:
            error = unavailable
        except CoreTablesError as failure:
            if len(waiting) > 1:  # it is about one of them, and the others are not to fail with it
                half, now = len(waiting) // 2, time.monotonic()
                return self._look(waiting[:half], now) + self._look(waiting[half:], now)
            for only in waiting:
                only.answer(None, failure)
            return []
        left = []
        now = time.monotonic()
        for wanted in waiting:
            if wanted.event_id in found:
                wanted.answer(found[wanted.event_id], None)
            elif now >= wanted.deadline:
                wanted.answer(None, error)
            else:
                left.append(wanted)
        return left

    def _is_interrupted(self) -> bool:
        return bool(self._arrived) or self._closing


def _soon(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[_T]", act: Callable[[], None]) -> None:
    """Do something to a future in its loop, unless it is done by then: it may have been cancelled."""
    with suppress(RuntimeError):  # the loop is closed, and nobody awaits it
        loop.call_soon_threadsafe(lambda: None if future.done() else act())


def _closed() -> ClosedError:
    return ClosedError("this ledger is closed; connect a new one, and ask for the outcome by the event id")
