"""Times and durations as an application has them, in the units of the contract."""

from datetime import UTC, datetime, timedelta
from typing import Final

from core_tables.schemas.reasons import ContractError, contract_failure

Moment = int | datetime
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MILLISECOND: Final = timedelta(milliseconds=1)


def nanoseconds(moment: Moment, field: str) -> int:
    """A time in nanoseconds since 1970. Raises ContractError, naming the field, for a datetime without a time zone."""
    if not isinstance(moment, datetime):
        return moment
    if moment.tzinfo is None:
        raise ContractError(contract_failure(field, f"{field} has no time zone; give a datetime with one, such as UTC"))
    return (moment - _EPOCH) // _MICROSECOND * 1000


def milliseconds(duration: timedelta) -> int:
    """A duration in whole milliseconds; a part of one is dropped."""
    return duration // _MILLISECOND


def milliseconds_or_none(duration: timedelta | None) -> int | None:
    """The same where a duration may be left out."""
    return None if duration is None else milliseconds(duration)


def duration_ns(duration: timedelta) -> int:
    """A duration in nanoseconds."""
    return duration // _MICROSECOND * 1000
