"""The loop that runs a step: start an attempt, try, report, and try again after a pause.

It is written once, as a coroutine. `run_step` gives it a ledger that blocks, so the coroutine never waits for an event loop.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol, TypeVar

from core_tables.producer.act import LeaseClaim, NowNs, StepOptions
from core_tables.producer.moments import duration_ns
from core_tables.producer.work_order_acts import WorkOrderEvents
from core_tables.projection.postgres.read_types import StepAttempt
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.outcomes import Accepted, Outcome, Refused
from core_tables.schemas.reasons import CoreTablesError, ReasonCode, UnavailableError

_NS_PER_S: Final = 1_000_000_000
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often a step is tried. After attempt n fails, attempt n + 1 is due `backoff` times 2 to the n later.

    Attributes:
        max_retries: how many attempts may follow the first.
        backoff: the pause before the first retry.
        timeout: after which an attempt that still runs is among the steps that are past their timeout. Nothing is interrupted.
        reason_code: of the events that report.
        failure_reason_code: of an attempt that failed.
    """

    max_retries: int = 3
    backoff: timedelta = timedelta(seconds=1)
    timeout: timedelta | None = None
    reason_code: int
    failure_reason_code: int


class StepNotDoneError(CoreTablesError):
    """The step is not done, or was done without its end being accepted. Its `reason_code` is that of a refusal, if it was one."""


class StepLedger(Protocol):
    """What the loop asks of a ledger, for one work order."""

    async def attempts(self, step_id: str) -> list[StepAttempt]:
        """The attempts of a step, in their order."""

    async def outcome(self, make: Callable[[WorkOrderEvents], LedgerEvent]) -> Outcome | None:
        """Append an event made for the work order as it is now; its outcome, or None if there is none in time."""

    async def pause(self, seconds: float) -> None:
        """Wait."""

    @property
    def clock(self) -> NowNs:
        """The clock that attempts are due by."""


class StepLoop:
    """A step of a work order, and what is reported of it."""

    def __init__(self, ledger: StepLedger, step_id: str, policy: RetryPolicy, lease: LeaseClaim | None) -> None:
        self._ledger = ledger
        self._step_id: Final = step_id
        self._policy = policy
        self._options: Final[StepOptions] = {"lease": lease}

    async def run(self, work: Callable[[int], Awaitable[_T]]) -> _T | None:
        """Do the work in attempts, and report each; what it returned, or None if the step was done before."""
        attempt_index = await self._first_attempt()
        while attempt_index is not None:
            await self._start(attempt_index)
            try:
                result = await work(attempt_index)
            except Exception as error:
                attempt_index = await self._failed(attempt_index, error)
            else:
                await self._finish(attempt_index)
                return result
        return None

    async def _first_attempt(self) -> int | None:
        """The attempt to begin with, once it is due; None if the step is done."""
        attempts = await self._ledger.attempts(self._step_id)
        if not attempts:
            return 0
        *_, last = attempts
        match last.status:
            case "SUCCEEDED":
                return None
            case "SCHEDULED":
                return await self._when_due(last.attempt_index, last.next_retry_at or 0)
            case "RUNNING":
                return await self._failed(last.attempt_index, None)
            case "FAILED":
                return await self._retry(last.attempt_index, None)
            case "CANCELED":
                raise StepNotDoneError(f"step {self._step_id} was canceled with its work order")

    async def _start(self, attempt_index: int) -> None:
        policy = self._policy
        accepted = await self._accepted(
            lambda order: order.start_step(
                self._step_id,
                attempt_index,
                timeout=policy.timeout,
                max_retries=policy.max_retries,
                retry_backoff=policy.backoff,
                **self._options,
            ),
            "not started",
        )
        if not accepted:
            raise StepNotDoneError(
                f"somebody else has started attempt {attempt_index} of step {self._step_id}; hold a lease while you run it"
            )

    async def _finish(self, attempt_index: int) -> None:
        await self._accepted(
            lambda order: order.finish_step(self._step_id, attempt_index, **self._options), "done, but not recorded"
        )

    async def _failed(self, attempt_index: int, error: Exception | None) -> int:
        """Report that an attempt failed; the next one, once it is due."""
        code = self._policy.failure_reason_code
        await self._accepted(
            lambda order: order.fail_step(self._step_id, attempt_index, failure_reason_code=code, **self._options),
            "failed, which is not recorded",
        )
        return await self._retry(attempt_index, error)

    async def _retry(self, failed_index: int, error: Exception | None) -> int:
        """Schedule the attempt after one that failed, and wait until it is due. Raises StepNotDoneError after the last."""
        policy, next_index = self._policy, failed_index + 1
        if next_index > policy.max_retries:
            raise StepNotDoneError(f"step {self._step_id} failed in all of its {next_index} attempts") from error
        due_at = self._ledger.clock() + duration_ns(policy.backoff * 2**failed_index)
        await self._accepted(
            lambda order: order.schedule_retry(
                self._step_id,
                next_index,
                next_retry_at=due_at,
                idempotency_key=f"retry:{self._step_id}:{next_index}",
                **self._options,
            ),
            "not scheduled again",
        )
        return await self._when_due(next_index, due_at)

    async def _when_due(self, attempt_index: int, due_at: int) -> int:
        await self._ledger.pause(max(0, due_at - self._ledger.clock()) / _NS_PER_S)
        return attempt_index

    async def _accepted(self, make: Callable[[WorkOrderEvents], LedgerEvent], otherwise: str) -> bool:
        """Whether an event was accepted now, and not before. Raises StepNotDoneError if it was refused."""
        outcome = await self._ledger.outcome(make)
        if isinstance(outcome, Refused):
            code: ReasonCode = outcome.reason_code
            raise StepNotDoneError(f"step {self._step_id} is {otherwise}: {outcome.sentence}", reason_code=code)
        if outcome is None:
            raise UnavailableError("kafka", f"no worker decided about step {self._step_id} in time; is one running?")
        return isinstance(outcome, Accepted)
