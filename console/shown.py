"""How pages show values: times, numbers, and what is not shown until it is asked for."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup

_NS_PER_S: Final = 1_000_000_000


def when(ns: int | None) -> str:
    """A time in nanoseconds, in UTC, to the second or as exactly as it is known."""
    if ns is None:
        return ""
    seconds, fraction = divmod(ns, _NS_PER_S)
    found = datetime.fromtimestamp(seconds, UTC)
    exact = f".{fraction:09}".rstrip("0") if fraction else ""
    return Markup('<time datetime="{}{}Z"><span>{}</span> {}<small>{}</small></time>').format(
        found.strftime("%Y-%m-%dT%H:%M:%S"), exact, found.strftime("%Y-%m-%d"), found.strftime("%H:%M:%S"), exact
    )


def clock(ns: int) -> str:
    """The same as plain text."""
    seconds, fraction = divmod(ns, _NS_PER_S)
    exact = f".{fraction:09}".rstrip("0") if fraction else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}{exact}"


def when_of(found: datetime) -> str:
    """The same for a time as Postgres gives it."""
    return when(int(found.timestamp()) * _NS_PER_S)


def number(value: float) -> str:
    """A number with commas between thousands."""
    return f"{value:,}"


def duration(seconds: float) -> str:
    """A duration in the unit that a person would use."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:,.0f} s"


def as_json(value: Any) -> str:
    """A value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False)


def as_lines(value: Any) -> str:
    """A value as JSON over several lines."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def hex_lines(digits: str) -> str:
    """Bytes as a dump has them: offset, 16 bytes, and the characters that are plain ASCII."""
    data = bytes.fromhex(digits)
    lines = []
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        pairs = " ".join(f"{byte:02x}" for byte in part)
        text = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in part)
        lines.append(f"{start:05x}  {pairs:<47}  {text}")
    return "\n".join(lines)


def symbol(value: str) -> str:
    """A symbol of the contract as the name of a style."""
    return value.lower().replace("_", "-").replace(" ", "-")
