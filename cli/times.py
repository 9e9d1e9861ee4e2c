"""Times as people write and read them; records have nanoseconds since 1970."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from core_tables.cli import output
from core_tables.schemas.vocabulary import MAX_I64

FORMS: Final = (
    "2026-01-15, 2026-01-15T08:00:00Z or with a zone such as +01:00, 2h (that long ago; units w d h m s), +2h (from now), "
    "now, or nanoseconds since 1970"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = 1_000_000_000  # ns
_MILLISECOND: Final = 1_000_000  # ns
_UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_SPAN: Final = re.compile(r"(\+?)((?:\d+[wdhms])+)")
_PART: Final = re.compile(r"(\d+)([wdhms])")
_MOMENT: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2})?)(?:\.(\d{1,9}))?\s?(Z|[+-]\d{2}:?\d{2})?)?", re.IGNORECASE
)
_LONG_AGO: Final = 10**17  # ns; 1973: who writes a smaller number means seconds or milliseconds


class TimeType(click.ParamType[int]):
    """A time, as an option takes it; the value is in nanoseconds since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip()
        try:
            found = nanoseconds_of(text)
        except ValueError as error:
            self.fail(f"{text!r}: {error}", param, ctx)
        if text.isdecimal():
            if 0 < found < _LONG_AGO:
                output.say(f"warning: {text} nanoseconds since 1970 are {shown_time(found)}")
        elif not 0 <= found <= MAX_I64:
            self.fail(f"{text!r} is not between 1970 and 2262", param, ctx)
        return found


def nanoseconds_of(text: str) -> int:
    """A time in nanoseconds since 1970. Raises ValueError with what to write instead."""
    if text.isdecimal():
        return int(text)
    if text.lower() == "now":
        return time.time_ns()
    if span := _SPAN.fullmatch(text.lower()):
        ahead, parts = span.groups()
        length = sum(int(count) * _UNITS[unit] for count, unit in _PART.findall(parts)) * _SECOND
        return time.time_ns() + (length if ahead else -length)
    moment = _MOMENT.fullmatch(text)
    if moment is None:
        raise ValueError(f"a time was expected: {FORMS}")
    day, clock, fraction, zone = moment.groups()
    if clock is not None and zone is None:
        raise ValueError(f"in which zone? Write {text}Z for UTC, or {text}+01:00")
    at = datetime.fromisoformat(f"{day}T{clock or '00:00'}{(zone or 'Z').upper()}")
    return (at - _EPOCH) // timedelta(seconds=1) * _SECOND + int((fraction or "").ljust(9, "0"))


def rounded_time(nanoseconds: int) -> str:
    """A time in UTC, as tables have it: in whole milliseconds, rounded down, which a screen has room for."""
    seconds, rest = divmod(nanoseconds, _SECOND)
    return _utc(seconds, f".{rest // _MILLISECOND:03d}" if rest else "")


def shown_time(nanoseconds: int) -> str:
    """A time in UTC, with as many digits of a second as it has."""
    seconds, rest = divmod(nanoseconds, _SECOND)
    return _utc(seconds, f".{rest:09d}".rstrip("0") if rest else "")


def _utc(seconds: int, fraction: str) -> str:
    return f"{(_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()}{fraction}Z"
