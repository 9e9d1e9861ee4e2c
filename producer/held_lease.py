"""A lease that is held for as long as a block runs."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from secrets import token_bytes
from types import TracebackType
from typing import Final, Self

from core_tables.producer.act import LeaseClaim
from core_tables.producer.ledger import Ledger
from core_tables.producer.receipt import Receipt
from core_tables.producer.work_order_handle import WorkOrderHandle
from core_tables.schemas.outcomes import Outcome, Refused
from core_tables.schemas.reasons import (
    ContractError,
    CoreTablesError,
    ReasonCode,
    UnavailableError,
    contract_failure,
)

_RENEWALS_PER_TTL: Final = 3


class LeaseNotHeldError(CoreTablesError):
    """The lease was not granted, or is lost: somebody else has it or may have it. `reason_code` says which, if the ledger does."""


class HeldLease:
    """A lease on a work order, renewed in a thread while the block runs and released at its end.

        with HeldLease(ledger, "acme", "order-1", "executor-1", reason_code=1) as lease:
            order.start_step("book", 0, lease=lease.claim)

    Entering raises LeaseNotHeldError if somebody else has the lease. If it is lost, `check` raises that, and so does the end
    of the block. Give `claim` to each act on a step: a program that was suspended and has lost its lease meanwhile is refused.

    Its events leave the status as it is: each says the last event it has seen, and is repeated if anything came between.
    """

    def __init__(
        self,
        ledger: Ledger,
        tenant_id: str,
        work_order_id: str,
        owner_id: str,
        *,
        ttl: timedelta = timedelta(minutes=1),
        reason_code: int,
        timeout: float = 5.0,
    ) -> None:
        """Nothing is sent yet. To ask for the lease, to renew it and to release it take at most `timeout` seconds each."""
        self.claim: Final = LeaseClaim(owner_id, sha256(token_bytes(32)).hexdigest())
        self._ledger = ledger
        self._of = (tenant_id, work_order_id)
        self._ttl = ttl
        self._reason_code = reason_code
        self._timeout = timeout
        self._until = 0.0  # monotonic seconds, by this machine's clock
        self._lost: LeaseNotHeldError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="core-tables lease", daemon=True)

    @property
    def lost(self) -> bool:
        """Whether the lease is not held any more, or perhaps not: it could not be renewed in time."""
        return self._lost is not None or time.monotonic() >= self._until

    def check(self) -> None:
        """Raise LeaseNotHeldError if the lease is lost."""
        if self.lost:
            raise self._lost or LeaseNotHeldError(
                "the lease was not granted or renewed in time, and somebody else may have it now; stop what it is for"
            )

    def __enter__(self) -> Self:
        self._extend(lambda order, last: order.acquire_lease(*self.claim, ttl=self._ttl, expected_last_event_id=last))
        self.check()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if error is None:
            self.check()
        with suppress(UnavailableError):  # it ends by itself
            outcome = self._decided(lambda order, last: order.release_lease(*self.claim, expected_last_event_id=last))
            if error is None and isinstance(outcome, Refused):
                raise _refused(outcome)

    def _renew(self) -> None:
        """Renew the lease each third of its time, until the block ends or the lease is lost."""
        while not self._ended.wait(self._ttl.total_seconds() / _RENEWALS_PER_TTL) and not self.lost:
            with suppress(CoreTablesError):  # tried again, while there is time
                self._extend(
                    lambda order, last: order.renew_lease(*self.claim, ttl=self._ttl, expected_last_event_id=last)
                )

    def _extend(self, act: Callable[[WorkOrderHandle, int], Receipt]) -> None:
        asked_at = time.monotonic()
        outcome = self._decided(act)
        if isinstance(outcome, Refused):
            self._lost = _refused(outcome)
        elif outcome is not None:
            self._until = asked_at + self._ttl.total_seconds()

    def _decided(self, act: Callable[[WorkOrderHandle, int], Receipt]) -> Outcome | None:
        """The outcome of an act on the record as it is; None if there is none in time."""
        deadline = time.monotonic() + self._timeout
        while (left := deadline - time.monotonic()) > 0:
            record = self._ledger.current(*self._of, timeout=left)
            if record is None:
                raise ContractError(contract_failure("work_order_id", "there is no such work order to take a lease on"))
            order = self._ledger.work_order(
                *self._of,
                correlation_id=record.correlation_id,
                turn_id=record.turn_id,
                status=record.work_order_status,
                reason_code=self._reason_code,
            )
            outcome = act(order, record.last_event_id).outcome(left)
            if not (isinstance(outcome, Refused) and outcome.field == "expected_last_event_id"):
                return outcome
        return None


def _refused(outcome: Refused) -> LeaseNotHeldError:
    code: ReasonCode = outcome.reason_code
    return LeaseNotHeldError(f"the lease is not held: {outcome.sentence}", reason_code=code)
