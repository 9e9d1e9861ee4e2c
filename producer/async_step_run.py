"""`run_step_async`: a step with retries, for programs that use asyncio."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from core_tables.producer.act import LeaseClaim, NowNs
from core_tables.producer.async_ledger import AsyncLedger
from core_tables.producer.step_loop import RetryPolicy, StepLoop
from core_tables.producer.work_order_acts import WorkOrderEvents
from core_tables.projection.postgres.read_types import StepAttempt
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.outcomes import Outcome

_T = TypeVar("_T")


async def run_step_async(
    ledger: AsyncLedger,
    tenant_id: str,
    work_order_id: str,
    step_id: str,
    work: Callable[[int], Awaitable[_T]],
    policy: RetryPolicy,
    *,
    lease: LeaseClaim | None = None,
    timeout: float = 5.0,
) -> _T | None:
    """Do `work` as `run_step` does, and await it. No thread waits meanwhile.

    A task that is cancelled while it works reports nothing: the attempt stays RUNNING, as after a crash.
    """
    steps = _AwaitedSteps(ledger, (tenant_id, work_order_id), policy.reason_code, timeout)
    return await StepLoop(steps, step_id, policy, lease).run(work)


class _AwaitedSteps:
    """A ledger for the loop, whose coroutines suspend."""

    def __init__(self, ledger: AsyncLedger, of: tuple[str, str], reason_code: int, timeout: float) -> None:
        self._ledger = ledger
        self._of = of
        self._reason_code = reason_code
        self._timeout = timeout

    async def attempts(self, step_id: str) -> list[StepAttempt]:
        found = []
        async for attempt in self._ledger.all(Reads.attempts, *self._of, after=(step_id, -1)):
            if attempt.step_id != step_id:
                break
            found.append(attempt)
        return found

    async def outcome(self, make: Callable[[WorkOrderEvents], LedgerEvent]) -> Outcome | None:
        order = self._ledger.work_order(*self._of, reason_code=self._reason_code)
        receipt = await self._ledger.append(make(await order.events()))
        return await receipt.outcome(self._timeout)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @property
    def clock(self) -> NowNs:
        return self._ledger.clock
