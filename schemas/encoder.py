"""Compiles an Avro record schema into one flat Python function that encodes a tuple of its fields, in their order.

The counterpart of decoder.py: a library that interprets the schema for every record was the audit's largest cost.
Source: Avro specification 1.12, "Binary encoding".
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

Encode = Callable[[Sequence[Any]], bytes]

_LOW: Final = (1 << 14) - 1  # the bits that two bytes of a varint hold
_I64: Final = 1 << 63


def compile_encoder(schema: Mapping[str, Any], prefix: bytes, few: Collection[str] = ()) -> Encode:
    """Return `encode(fields) -> prefix and body` for a record of scalars, optional scalars and maps of strings.

    The strings of fields named in `few` take few values, as those of maps do: their encodings are remembered.
    The encoder raises ValueError, AttributeError, TypeError or KeyError for a value that does not fit its type.
    """
    names = [f"f{index}" for index in range(len(schema["fields"]))]
    scope: dict[str, Any] = {"long": long, "string": string, "known": known, "strings": strings, "join": b"".join}
    scope["prefix"] = prefix
    parts = []
    for field, name in zip(schema["fields"], names, strict=True):
        parts.append(_expression(field["type"], name, scope, "known" if field["name"] in few else "string"))
    code = f"def encode(fields):\n    {', '.join(names)}, = fields\n    return join((prefix, {', '.join(parts)}))"
    exec(compile(code, f"<encoder of {schema['name']}>", "exec"), scope)  # noqa: S102 - our own schema files
    encode: Encode = scope["encode"]
    return encode


def _expression(kind: Any, name: str, scope: dict[str, Any], string_encoder: str) -> str:
    """The expression that encodes variable `name`; a string by the function of the name given."""
    match kind:
        case "long":
            return f"long({name})"
        case "string":
            return f"{string_encoder}({name})"
        case ["null", inner]:
            return f"(b'\\0' if {name} is None else b'\\2' + {_expression(inner, name, scope, string_encoder)})"
        case {"type": "fixed", "size": size}:
            return f"{name}.to_bytes({size}, 'big')"
        case {"type": "enum", "symbols": symbols}:
            scope[f"{name}_symbols"] = {symbol: long(index) for index, symbol in enumerate(symbols)}
            return f"{name}_symbols[{name}]"
        case {"type": "map", "values": "string"}:
            return f"strings({name})"
        case _:
            raise NotImplementedError(f"no encoder for {kind}")


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
    return long(len(encoded)) + encoded


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
