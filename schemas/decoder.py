"""What the generated decoders call: the rare cases of Avro's binary encoding (generate.py writes the decoders).

What a decoder accepts is frozen with the contract, so it must not depend on a library's leniency (negative lengths,
symbols out of range, bytes left over). Source: Avro specification 1.12, "Binary encoding".
"""

from typing import Final

from core_tables.schemas.vocabulary import MAX_VALUE_BYTES

MAX_ITEMS: Final = MAX_VALUE_BYTES  # of one array or map: each takes a byte at least


class BodyError(ValueError):
    """The body is not a well-formed record of its schema; the sentence says where it breaks."""


def more(b: bytes, p: int, low: int) -> tuple[int, int]:
    """The rest of a varint whose first byte had its continuation bit set: (unsigned value, next position)."""
    value = low & 0x7F
    shift = 7
    while True:
        byte = b[p]
        p += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise BodyError("a number of the body is longer than 64 bits")
    if value >= 1 << 64:
        raise BodyError("a number of the body is longer than 64 bits")
    return value, p


def bad(what: str, index: int) -> BodyError:
    """The error of an enum's or a union's index that the schema does not have."""
    return BodyError(f"{what} has number {(index >> 1) ^ -(index & 1)}, which is not in the schema")
