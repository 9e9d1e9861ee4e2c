"""What becomes of a record: one of three frozen values (contract, sections 1 and 2)."""

from msgspec import Struct

from core_tables.schemas.reasons import ReasonCode, Violation


class Accepted(Struct, frozen=True, gc=False):
    """The event is in the ledger under its own position id."""


class Replayed(Struct, frozen=True, gc=False):
    """A no-op: the idempotency key is bound to the event `first_event_id` already.

    `request_differs` says whether anything that the caller decided is not as in that event (contract, section 5).
    """

    first_event_id: int
    request_differs: bool


class Refused(Struct, frozen=True, gc=False):
    """The record breaks a rule; it binds nothing."""

    reason_code: ReasonCode
    field: str | None
    sentence: str


Outcome = Accepted | Replayed | Refused

ACCEPTED = Accepted()


def refused(violation: Violation) -> Refused:
    """The outcome of a violation."""
    return Refused(reason_code=violation.reason_code, field=violation.field, sentence=violation.sentence)
