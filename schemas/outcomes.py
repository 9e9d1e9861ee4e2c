"""What becomes of a record: one of three frozen values (contract, sections 1 and 2)."""

from typing import NamedTuple

from core_tables.schemas.reasons import ReasonCode, Violation


class Accepted(NamedTuple):
    """The event is in the ledger under its own position id."""


class Replayed(NamedTuple):
    """A no-op: the idempotency key is bound to the event `first_event_id` already."""

    first_event_id: int
    payload_differs: bool


class Refused(NamedTuple):
    """The record breaks a rule; it binds nothing."""

    reason_code: ReasonCode
    field: str | None
    sentence: str


Outcome = Accepted | Replayed | Refused

ACCEPTED = Accepted()


def refused(violation: Violation) -> Refused:
    """The outcome of a violation."""
    return Refused(*violation)
