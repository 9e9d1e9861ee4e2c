"""The entries of cached lists: texts that sort in the order of the pending list, and what a reader makes of them. Pure.

The cache has a list for each pending status of a requester: a sorted set whose entries are in the order of their bytes. An entry is
the time of the last update, inverted and in hexadecimal digits, the work_order_id, U+0000, and the record as JSON. Behind the last
entry is a marker. It says down to where the list is complete: WHOLE, or the time and the id of the last entry that was kept and
U+0001, which sorts behind that entry and before all that can follow it. No id contains U+0000.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import MsgspecError
from msgspec.json import Decoder, Encoder

from core_tables.projection.fold.pending import PendingQuery, PendingRecord, pending_since
from core_tables.schemas.vocabulary import MAX_I64

WHOLE: Final = b"~"  # behind every hexadecimal digit
_TIME: Final = 16  # digits
_END_OF_KEY: Final = b"\0"
_BEHIND: Final = b"\1"
_encode: Final = Encoder().encode
_decode: Final = Decoder(list[PendingRecord]).decode


def key_of(last_updated_at: int, work_order_id: str) -> bytes:
    """Where a work order is in its list: most recent first, then by id, byte by byte."""
    return b"%016x%s" % (MAX_I64 - last_updated_at, work_order_id.encode())


def entry_of(record: PendingRecord) -> bytes:
    """The entry of a record."""
    return b"%s%s%s" % (key_of(record.last_updated_at, record.work_order_id), _END_OF_KEY, _encode(record))


def members(records: Sequence[PendingRecord], kept: int) -> list[bytes]:
    """The newest entries and the marker of a list that has these records, in order, and possibly others behind the first `kept`."""
    if len(records) <= kept:
        return [*map(entry_of, records), WHOLE]
    last = records[kept - 1]
    return [*map(entry_of, records[:kept]), key_of(last.last_updated_at, last.work_order_id) + _BEHIND]


def records_of(entries: Sequence[bytes]) -> list[PendingRecord] | None:
    """The records of entries; None if they are not as this module writes them: any program may write to Redis."""
    try:
        return _decode(b"[%s]" % b",".join([entry.partition(_END_OF_KEY)[2] for entry in entries]))
    except (MsgspecError, UnicodeDecodeError):
        return None


def newest(lists: Sequence[list[bytes]], query: PendingQuery) -> list[PendingRecord] | None:
    """The records that answer a query, in order; None if the lists do not reach that far.

    `lists` are the first `top_n` members of the lists of the statuses that are asked for. A list that is not there is empty:
    one without records has a marker.
    """
    since = pending_since(query)
    oldest = b"%016x" % (MAX_I64 - max(since, 0)) if since <= MAX_I64 else b""
    found: list[bytes] = []
    for first_members in lists:
        if not first_members:
            return None
        last = first_members[-1]
        if _END_OF_KEY not in last:
            if last != WHOLE and not (last.endswith(_BEHIND) and oldest < last[:_TIME]):
                return None
            found += first_members[:-1]
        elif len(first_members) == query.top_n:
            found += first_members
        else:
            return None  # it has no marker
    found.sort()
    return records_of([entry for entry in found[: query.top_n] if entry[:_TIME] <= oldest])


def split(stored_members: list[bytes]) -> tuple[list[bytes], bytes] | None:
    """The entries and the marker of a list that was read as a whole; None if it has no marker."""
    if not stored_members or _END_OF_KEY in stored_members[-1]:
        return None
    return stored_members[:-1], stored_members[-1]
