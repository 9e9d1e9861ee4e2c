"""`run_step`: a step with retries, for programs that block."""

import time
from collections.abc import Callable, Coroutine
from itertools import takewhile
from typing import TypeVar

from core_tables.producer.act import LeaseClaim, NowNs
from core_tables.producer.ledger import Ledger
from core_tables.producer.step_loop import RetryPolicy, StepLoop
from core_tables.producer.work_order_acts import WorkOrderEvents
from core_tables.projection.postgres.read_types import StepAttempt
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.outcomes import Outcome

_T = TypeVar("_T")


def run_step(
    ledger: Ledger,
    tenant_id: str,
    work_order_id: str,
    step_id: str,
    work: Callable[[int], _T],
    policy: RetryPolicy,
    *,
    lease: LeaseClaim | None = None,
    timeout: float = 5.0,
) -> _T | None:
    """Do `work`, which is given the number of the attempt, and report it; return what it returned.

    What it raises is a failed attempt, and after a pause there is another one. A program that runs again continues where the
    one before it ended: a step that was done is not done again, and None is returned; an attempt that was running then counts
    as failed. So only one program may run a step at a time: hold a lease, and give its claim. A program that lost it is refused.

    Raises StepNotDoneError after the last attempt, or if somebody else runs the step or closed the work order, and
    UnavailableError if an event has no outcome within `timeout` seconds.
    """

    async def worked(attempt_index: int) -> _T:
        return work(attempt_index)

    steps = _BlockingSteps(ledger, (tenant_id, work_order_id), policy.reason_code, timeout)
    return _finished(StepLoop(steps, step_id, policy, lease).run(worked))


class _BlockingSteps:
    """A ledger for the loop, whose coroutines block and never suspend."""

    def __init__(self, ledger: Ledger, of: tuple[str, str], reason_code: int, timeout: float) -> None:
        self._ledger = ledger
        self._of = of
        self._reason_code = reason_code
        self._timeout = timeout

    async def attempts(self, step_id: str) -> list[StepAttempt]:
        found = self._ledger.reads().attempts(*self._of, after=(step_id, -1)).all()
        return list(takewhile(lambda attempt: attempt.step_id == step_id, found))

    async def outcome(self, make: Callable[[WorkOrderEvents], LedgerEvent]) -> Outcome | None:
        order = self._ledger.work_order(*self._of, reason_code=self._reason_code)
        return self._ledger.append(make(order.events())).outcome(self._timeout)

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    @property
    def clock(self) -> NowNs:
        return self._ledger.clock


def _finished(coroutine: Coroutine[object, None, _T]) -> _T:
    """What a coroutine returns that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        result: _T = ended.value
        return result
    raise AssertionError("the loop of a step waits for something that does not block")
