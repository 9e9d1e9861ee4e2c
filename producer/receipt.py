"""The receipt of an append: where its record is, and what became of it."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from confluent_kafka import KafkaError

from core_tables.kafka.clients import DELIVERY_TIMEOUT_S
from core_tables.kafka.errors import UNANSWERED, as_reported, explained, translate_kafka
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import event_id_at
from core_tables.schemas.outcomes import Outcome, Refused, Replayed
from core_tables.schemas.reasons import (
    ContractError,
    CoreTablesError,
    SetupError,
    UnavailableError,
    contract_failure,
)

# The broker's answers after which nothing is unknown: the record was not written, and would not be the next time.
_REFUSALS: Final = {
    KafkaError.INVALID_TIMESTAMP: "set this machine's clock, or see message.timestamp.*.max.ms of the topic",
    KafkaError.INVALID_RECORD: "see the settings of the topic",
    KafkaError.POLICY_VIOLATION: "see the policies of the broker",
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE: "see compression.type in the settings passed to the Kafka client",
}
# What a discarded client says of its records (deliveries.py).
_DISCARDED: Final = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}


class Appending(Protocol):
    """What a receipt asks of the ledger that gave it."""

    def wait_delivered(self, receipt: "Receipt", deadline: float) -> bool: ...

    def outcomes(self, receipts: "Sequence[Receipt]", timeout: float) -> list[Outcome | None]: ...


class Receipt:
    """The receipt of an append, which first becomes durable and is then folded."""

    def __init__(self, ledger: Appending, event: LedgerEvent) -> None:
        self.event = event
        self._ledger = ledger
        self._process = os.getpid()
        self._place: tuple[int, int] | None = None
        self._first_lane: int | None = None
        self._error: CoreTablesError | None = None
        self._outcome: Outcome | None = None
        self._settled: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        state = self._outcome or self._error or ("durable" if self.delivered else "queued")
        name = state if isinstance(state, str) else type(state).__name__
        return f"<{type(self).__name__} of {self.event.event_type} for {self.event.work_order_id!r}: {name}>"

    def place(self, timeout: float = DELIVERY_TIMEOUT_S + 5) -> tuple[int, int]:
        """The partition and offset of the record, once the broker has acknowledged it.

        Raises UnavailableError if it is not known whether the record was written. Then send an event that has an idempotency
        key again, with the same key; look for one that has none in the ledger first. In a forked process, only what the broker
        had answered before the fork is known.
        """
        if not self.delivered and self._process != os.getpid():
            raise _unknown(self.event, "it was appended by the process that this one was forked from")
        may_come = self._ledger.wait_delivered(self, time.monotonic() + timeout)
        if self._error is not None:
            raise self._error
        if self._place is None:
            lost = "the program was interrupted when the answer came"
            raise _unknown(self.event, f"no answer in time{as_reported()}" if may_come else lost)
        return self._place

    def event_id(self, timeout: float = DELIVERY_TIMEOUT_S + 5) -> int:
        """The id of the record, once the broker has acknowledged it. For an accepted event it is the work_order_event_id.

        Raises what `place` raises, and SetupError if the ledger has no database: the lanes of its topic are registered there.
        """
        partition, offset = self.place(timeout)
        if self._first_lane is None:
            raise no_database()
        return event_id_at(self._first_lane + partition, offset)

    def outcome(self, timeout: float) -> Outcome | None:
        """The outcome: Accepted, Replayed or Refused, or None if there is none yet after `timeout` seconds.

        Raises UnavailableError if the broker or Postgres does not answer in that time.
        """
        return self._ledger.outcomes([self], timeout)[0]

    @property
    def delivered(self) -> bool:
        """Whether the broker has answered, with an acknowledgement or an error."""
        return self._place is not None or self._error is not None

    @property
    def failed(self) -> bool:
        """Whether it is known that the event did not change the work order, or not known whether it was written."""
        return self._error is not None or isinstance(self._outcome, Replayed | Refused)

    def noted(self, outcome: Outcome | None) -> Outcome | None:
        """The outcome, which is noted for those who ask whether it `failed`."""
        self._outcome = outcome or self._outcome
        return outcome

    def when_settled(self, act: Callable[[], None]) -> None:
        """Call `act` once the broker has answered, in whichever thread learns it; at once if it has answered."""
        self._settled.append(act)
        if self.delivered:
            self._call_settled()

    def settle(
        self, place: tuple[int, int] | None, error: CoreTablesError | None, first_lane: int | None = None
    ) -> None:
        """Note the broker's answer, and the first lane of the topic, if it is known."""
        self._first_lane, self._place, self._error = first_lane, place, error
        self._call_settled()

    def _call_settled(self) -> None:
        while self._settled:
            with suppress(IndexError):  # another thread took the last one
                self._settled.pop()()


def no_database() -> SetupError:
    """The error of a ledger that was given no database."""
    return SetupError(
        "this ledger has no postgres_dsn, so it cannot read and knows no event ids; set it in LedgerSettings",
        "database",
    )


def delivery_error(event: LedgerEvent, error: KafkaError | None, topic: str) -> CoreTablesError:
    """What a delivery report without a place means: a definite refusal, a wrong setup, or that nothing is known."""
    if error is None:
        return _unknown(event, "the broker reported no offset")
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return ContractError(contract_failure(None, "the record is larger than the topic allows"))
    if error.code() in _REFUSALS:
        advice = _REFUSALS[error.code()]
        return SetupError(f"the broker refused the record, and nothing was written: {error.str()}; {advice}", "machine")
    if error.code() in _DISCARDED:
        return _unknown(event, f"Kafka did not answer this client in time{as_reported()}")
    known = translate_kafka(error, f"WRITE on the topic {topic}")
    definite = isinstance(known, SetupError) and error.code() not in UNANSWERED
    return known if definite else _unknown(event, explained(error))


def _unknown(event: LedgerEvent, cause: str) -> UnavailableError:
    again = (
        "send it again with the same idempotency key"
        if event.idempotency_key is not None
        else "it has no idempotency key, so look in the ledger before sending it again"
    )
    return UnavailableError("kafka", f"whether the append was written is not known ({cause}); {again}")
