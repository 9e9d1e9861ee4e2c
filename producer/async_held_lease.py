"""`HeldLease` for asyncio: the same lease, renewed by a task."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Self

from core_tables.producer.async_ledger import AsyncLedger
from core_tables.producer.lease_term import LeaseTerm, came_too_late, existing
from core_tables.projection.postgres.read_types import CurrentRecord
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.outcomes import Outcome
from core_tables.schemas.reasons import CoreTablesError, UnavailableError


class AsyncHeldLease(LeaseTerm):
    """A lease on a work order, renewed while the block runs and released at its end, as `HeldLease` is.

        async with AsyncHeldLease(ledger, "acme", "order-1", "executor-1", reason_code=1) as lease:
            await order.start_step("book", 0, lease=lease.claim)

    A task renews it, so whatever blocks the event loop for longer than the lease lasts loses it. If it is lost, `check` raises
    LeaseNotHeldError, and so does the end of the block.
    """

    def __init__(
        self,
        ledger: AsyncLedger,
        tenant_id: str,
        work_order_id: str,
        owner_id: str,
        *,
        ttl: timedelta = timedelta(minutes=1),
        reason_code: int,
        timeout: float = 5.0,
    ) -> None:
        """Nothing is sent yet. To ask for the lease, to renew it and to release it take at most `timeout` seconds each."""
        super().__init__(
            (tenant_id, work_order_id),
            owner_id,
            ttl=ttl,
            reason_code=reason_code,
            timeout=timeout,
            clock=ledger.clock,
        )
        self._ledger = ledger
        self._renewals: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._extend(self._acquiring)
        self.check()
        self._renewals = asyncio.create_task(self._renew())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._renewals is not None:
            self._renewals.cancel()
            await asyncio.wait([self._renewals])
        if error is None:
            self.check()
        with suppress(UnavailableError):  # it ends by itself
            outcome = await self._decided(self._releasing)
            if error is None:
                self._released(outcome)

    async def _renew(self) -> None:
        """Renew the lease each third of its time, until it is lost."""
        while not self.lost:
            await asyncio.sleep(self._renew_every_s)
            with suppress(CoreTablesError):  # tried again, while there is time
                await self._extend(self._renewing)

    async def _extend(self, make: Callable[[CurrentRecord], LedgerEvent]) -> None:
        asked_at = time.monotonic()
        self._extended(await self._decided(make), asked_at)

    async def _decided(self, make: Callable[[CurrentRecord], LedgerEvent]) -> Outcome | None:
        """The outcome of an event that is made for the record as it is; None if there is none in time."""
        deadline = time.monotonic() + self._timeout
        while (left := deadline - time.monotonic()) > 0:
            record = existing(await self._ledger.current(*self._of, timeout=left))
            outcome = await (await self._ledger.append(make(record))).outcome(left)
            if not came_too_late(outcome):
                return outcome
        return None
