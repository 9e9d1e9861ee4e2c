"""What the generated encoders call: Avro's binary encoding of a value (generate.py writes the encoders).

Each raises ValueError, AttributeError, TypeError or KeyError for a value that does not fit its type.
Source: Avro specification 1.12, "Binary encoding".
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

_LOW: Final = (1 << 14) - 1  # the bits that two bytes of a varint hold
_I64: Final = 1 << 63


def long(value: int) -> bytes:
    """A zigzag varint, made of two bytes at a time. Raises ValueError beyond 64 bits."""
    if not -_I64 <= value < _I64:
        raise ValueError(f"{value} does not fit into 64 bits")
    rest = value << 1 if value >= 0 else ~value << 1 | 1
    if rest < 1 << 14:
        return _LAST[rest]
    if rest < 1 << 28:
        return _MORE[rest & _LOW] + _LAST[rest >> 14]
    if rest < 1 << 42:
        return _MORE[rest & _LOW] + _MORE[rest >> 14 & _LOW] + _LAST[rest >> 28]
    head = _MORE[rest & _LOW] + _MORE[rest >> 14 & _LOW] + _MORE[rest >> 28 & _LOW]
    if rest < 1 << 56:
        return head + _LAST[rest >> 42]
    return head + _MORE[rest >> 42 & _LOW] + _LAST[rest >> 56]


def string(text: str) -> bytes:
    """A string: its length in bytes, then its UTF-8."""
    encoded = text.encode()
    size = len(encoded)
    return (_LAST[size << 1] if size < 1 << 13 else long(size)) + encoded


known: Final = lru_cache(4096)(string)


def strings(values: Mapping[str, str]) -> bytes:
    """A map of strings: one block, then the empty one."""
    if not values:
        return b"\0"
    return long(len(values)) + b"".join([known(text) for pair in values.items() for text in pair]) + b"\0"


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80, value >> 7])


_LAST: Final = [_varint(value) for value in range(_LOW + 1)]
_MORE: Final = [bytes([value & 0x7F | 0x80, value >> 7 | 0x80]) for value in range(_LOW + 1)]
