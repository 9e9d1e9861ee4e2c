"""Identity: which partition a tenant has, and which id a record has (docs/ARCHITECTURE.md, "Identity").

`work_order_event_id = (lane << 42) | (offset + 1)` with `lane = first_lane + partition`.
"""

from functools import lru_cache
from typing import Final

OFFSET_BITS: Final = 42
OFFSET_MASK: Final = (1 << OFFSET_BITS) - 1
MAX_LANES: Final = 2048  # keeps ids below 2^53, where JSON numbers stop being exact


def event_id_at(lane: int, offset: int) -> int:
    """The position id of the record at `offset` of `lane`."""
    return (lane << OFFSET_BITS) | (offset + 1)


def lane_of(event_id: int) -> int:
    """The lane a position id lies in."""
    return event_id >> OFFSET_BITS


def offset_of(event_id: int) -> int:
    """The offset a position id names within its lane."""
    return (event_id & OFFSET_MASK) - 1


def murmur2(data: bytes) -> int:
    """Unsigned 32-bit murmur2 with seed 0x9747b28c, as Kafka's Java client and librdkafka's murmur2_random have it."""
    length = len(data)
    h = (0x9747B28C ^ length) & 0xFFFFFFFF
    whole = length & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * 0x5BD1E995 & 0xFFFFFFFF
        k = (k ^ (k >> 24)) * 0x5BD1E995 & 0xFFFFFFFF
        h = (h * 0x5BD1E995 & 0xFFFFFFFF) ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * 0x5BD1E995 & 0xFFFFFFFF
    h = (h ^ (h >> 13)) * 0x5BD1E995 & 0xFFFFFFFF
    return h ^ (h >> 15)


@lru_cache(maxsize=65536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: the tenant id's bytes."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
