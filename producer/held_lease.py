"""A lease that is held for as long as a block runs."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Self

from core_tables.producer.lease_term import LeaseTerm, came_too_late, existing
from core_tables.producer.ledger import Ledger
from core_tables.projection.postgres.read_types import CurrentRecord
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.outcomes import Outcome
from core_tables.schemas.reasons import CoreTablesError, UnavailableError


class HeldLease(LeaseTerm):
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
        super().__init__(
            (tenant_id, work_order_id),
            owner_id,
            ttl=ttl,
            reason_code=reason_code,
            timeout=timeout,
            clock=ledger.clock,
        )
        self._ledger = ledger
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="core-tables lease", daemon=True)

    def __enter__(self) -> Self:
        self._extend(self._acquiring)
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
            outcome = self._decided(self._releasing)
            if error is None:
                self._released(outcome)

    def _renew(self) -> None:
        """Renew the lease each third of its time, until the block ends or the lease is lost."""
        while not self._ended.wait(self._renew_every_s) and not self.lost:
            with suppress(CoreTablesError):  # tried again, while there is time
                self._extend(self._renewing)

    def _extend(self, make: Callable[[CurrentRecord], LedgerEvent]) -> None:
        asked_at = time.monotonic()
        self._extended(self._decided(make), asked_at)

    def _decided(self, make: Callable[[CurrentRecord], LedgerEvent]) -> Outcome | None:
        """The outcome of an event that is made for the record as it is; None if there is none in time."""
        deadline = time.monotonic() + self._timeout
        while (left := deadline - time.monotonic()) > 0:
            record = existing(self._ledger.current(*self._of, timeout=left))
            outcome = self._ledger.append(make(record)).outcome(left)
            if not came_too_late(outcome):
                return outcome
        return None
