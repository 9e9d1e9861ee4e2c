"""How long a lease is held: the events that ask for it, renew it and release it, and what their outcomes mean."""

import time
from datetime import timedelta
from hashlib import sha256
from secrets import token_bytes
from typing import Final

from core_tables.producer.act import LeaseClaim, NowNs
from core_tables.producer.work_order_acts import WorkOrderEvents
from core_tables.projection.postgres.read_types import CurrentRecord
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.outcomes import Outcome, Refused
from core_tables.schemas.reasons import ContractError, CoreTablesError, ReasonCode, contract_failure

_RENEWALS_PER_TTL: Final = 3


class LeaseNotHeldError(CoreTablesError):
    """The lease was not granted, or is lost: somebody else has it or may have it. `reason_code` says which, if the ledger does."""


class LeaseTerm:
    """What a lease of one owner is, however its events are sent and awaited, which is up to the subclasses.

    Its events leave the status as it is: each is made for the record as it was read, and says the last event of it.
    """

    def __init__(
        self,
        of: tuple[str, str],
        owner_id: str,
        *,
        ttl: timedelta,
        reason_code: int,
        timeout: float,
        clock: NowNs,
    ) -> None:
        self.claim: Final = LeaseClaim(owner_id, sha256(token_bytes(32)).hexdigest())
        self._of = of
        self._timeout = timeout
        self._renew_every_s: Final = ttl.total_seconds() / _RENEWALS_PER_TTL
        self._ttl = ttl
        self._reason_code = reason_code
        self._clock = clock
        self._until = 0.0  # monotonic seconds, by this machine's clock
        self._lost: LeaseNotHeldError | None = None

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

    def _acquiring(self, record: CurrentRecord) -> LedgerEvent:
        """The event that asks for the lease."""
        return self._events(record).acquire_lease(
            *self.claim, ttl=self._ttl, expected_last_event_id=record.last_event_id
        )

    def _renewing(self, record: CurrentRecord) -> LedgerEvent:
        """The event that renews it."""
        return self._events(record).renew_lease(*self.claim, ttl=self._ttl, expected_last_event_id=record.last_event_id)

    def _releasing(self, record: CurrentRecord) -> LedgerEvent:
        """The event that releases it."""
        return self._events(record).release_lease(*self.claim, expected_last_event_id=record.last_event_id)

    def _extended(self, outcome: Outcome | None, asked_at: float) -> None:
        """Note the outcome of asking for the lease, or of renewing it, which began at `asked_at` (monotonic seconds)."""
        if isinstance(outcome, Refused):
            self._lost = _not_held(outcome)
        elif outcome is not None:
            self._until = asked_at + self._ttl.total_seconds()

    def _released(self, outcome: Outcome | None) -> None:
        """Raise LeaseNotHeldError if the release was refused, since the lease was lost before."""
        if isinstance(outcome, Refused):
            raise _not_held(outcome)

    def _events(self, record: CurrentRecord) -> WorkOrderEvents:
        return WorkOrderEvents(
            record.tenant_id,
            record.work_order_id,
            correlation_id=record.correlation_id,
            turn_id=record.turn_id,
            status=record.work_order_status,
            reason_code=self._reason_code,
            clock=self._clock,
        )


def existing(record: CurrentRecord | None) -> CurrentRecord:
    """The record. Raises ContractError if there is none."""
    if record is None:
        raise ContractError(contract_failure("work_order_id", "there is no such work order to take a lease on"))
    return record


def came_too_late(outcome: Outcome | None) -> bool:
    """Whether an event was refused because another came before it, so that it is repeated for the record as it is then."""
    return isinstance(outcome, Refused) and outcome.field == "expected_last_event_id"


def _not_held(outcome: Refused) -> LeaseNotHeldError:
    code: ReasonCode = outcome.reason_code
    return LeaseNotHeldError(f"the lease is not held: {outcome.sentence}", reason_code=code)
