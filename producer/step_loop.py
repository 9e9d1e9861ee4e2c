"""The loop that runs a step: start an attempt, try, report, and try again after a pause."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import takewhile
from typing import Final, TypeVar

from core_tables.producer.act import LeaseClaim, StepOptions
from core_tables.producer.ledger import Ledger
from core_tables.producer.moments import duration_ns
from core_tables.producer.receipt import Receipt
from core_tables.producer.work_order_handle import WorkOrderHandle
from core_tables.schemas.outcomes import Accepted, Refused
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
    step = _Step(ledger, (tenant_id, work_order_id), step_id, policy, lease, timeout)
    attempt_index = step.first_attempt()
    while attempt_index is not None:
        step.start(attempt_index)
        try:
            result = work(attempt_index)
        except Exception as error:
            attempt_index = step.failed(attempt_index, error)
        else:
            step.finish(attempt_index)
            return result
    return None


class _Step:
    """A step of a work order, and what is reported of it."""

    def __init__(
        self,
        ledger: Ledger,
        of: tuple[str, str],
        step_id: str,
        policy: RetryPolicy,
        lease: LeaseClaim | None,
        timeout: float,
    ) -> None:
        self._ledger = ledger
        self._of = of
        self._step_id: Final = step_id
        self._policy = policy
        self._options: Final[StepOptions] = {"lease": lease}
        self._timeout = timeout

    def first_attempt(self) -> int | None:
        """The attempt to begin with, once it is due; None if the step is done."""
        attempts = self._ledger.reads().attempts(*self._of, after=(self._step_id, -1)).all()
        of_step = list(takewhile(lambda attempt: attempt.step_id == self._step_id, attempts))
        if not of_step:
            return 0
        *_, last = of_step
        match last.status:
            case "SUCCEEDED":
                return None
            case "SCHEDULED":
                return self._when_due(last.attempt_index, last.next_retry_at or 0)
            case "RUNNING":
                return self.failed(last.attempt_index, None)
            case "FAILED":
                return self._retry(last.attempt_index, None)
            case "CANCELED":
                raise StepNotDoneError(f"step {self._step_id} was canceled with its work order")

    def start(self, attempt_index: int) -> None:
        """Report that an attempt starts."""
        policy = self._policy
        receipt = self._order().start_step(
            self._step_id,
            attempt_index,
            timeout=policy.timeout,
            max_retries=policy.max_retries,
            retry_backoff=policy.backoff,
            **self._options,
        )
        if not self._accepted(receipt, "not started"):
            raise StepNotDoneError(
                f"somebody else has started attempt {attempt_index} of step {self._step_id}; hold a lease while you run it"
            )

    def finish(self, attempt_index: int) -> None:
        """Report that an attempt succeeded."""
        self._accepted(
            self._order().finish_step(self._step_id, attempt_index, **self._options), "done, but not recorded"
        )

    def failed(self, attempt_index: int, error: Exception | None) -> int:
        """Report that an attempt failed; the next one, once it is due."""
        code = self._policy.failure_reason_code
        report = self._order().fail_step(self._step_id, attempt_index, failure_reason_code=code, **self._options)
        self._accepted(report, "failed, which is not recorded")
        return self._retry(attempt_index, error)

    def _retry(self, failed_index: int, error: Exception | None) -> int:
        """Schedule the attempt after one that failed, and wait until it is due. Raises StepNotDoneError after the last."""
        policy, next_index = self._policy, failed_index + 1
        if next_index > policy.max_retries:
            raise StepNotDoneError(f"step {self._step_id} failed in all of its {next_index} attempts") from error
        due_at = self._ledger.clock() + duration_ns(policy.backoff * 2**failed_index)
        receipt = self._order().schedule_retry(
            self._step_id,
            next_index,
            next_retry_at=due_at,
            idempotency_key=f"retry:{self._step_id}:{next_index}",
            **self._options,
        )
        self._accepted(receipt, "not scheduled again")
        return self._when_due(next_index, due_at)

    def _when_due(self, attempt_index: int, due_at: int) -> int:
        time.sleep(max(0, due_at - self._ledger.clock()) / _NS_PER_S)
        return attempt_index

    def _order(self) -> WorkOrderHandle:
        """The work order as it is now: somebody else may have changed its status since the last report."""
        return self._ledger.work_order(*self._of, reason_code=self._policy.reason_code)

    def _accepted(self, receipt: Receipt, otherwise: str) -> bool:
        """Whether an event was accepted now, and not before. Raises StepNotDoneError if it was refused."""
        outcome = receipt.outcome(self._timeout)
        if isinstance(outcome, Refused):
            code: ReasonCode = outcome.reason_code
            raise StepNotDoneError(f"step {self._step_id} is {otherwise}: {outcome.sentence}", reason_code=code)
        if outcome is None:
            raise UnavailableError("kafka", f"no worker decided about step {self._step_id} in time; is one running?")
        return isinstance(outcome, Accepted)
