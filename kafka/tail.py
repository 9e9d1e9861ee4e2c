"""What a worker asks about logs that it does not fetch: where the audit of a lane ends, where the ledger has gaps."""

import time
from collections.abc import Callable
from typing import Final

from core_tables.kafka.clients import REQUEST_TIMEOUT_S
from core_tables.kafka.errors import UnreadableRecordError
from core_tables.kafka.log import LogEnd, TopicReader
from core_tables.schemas.audit import decode_audit
from core_tables.schemas.reasons import LaneStoppedError, UnavailableError

TAIL_STEP: Final = 50


class AuditTail:
    """Reads the last committed record of an audit partition. One thread."""

    def __init__(self, reader: TopicReader, end_of: Callable[[int], LogEnd]) -> None:
        """`end_of` asks where a partition ends now."""
        self._reader = reader
        self._end_of = end_of

    def last_event_id(self, partition: int) -> int | None:
        """The event_id of the last committed audit record of a partition, or None.

        Raises UnavailableError, SetupError or LaneStoppedError. UnavailableError also while another program has a transaction
        open there: it hides what was committed after its start, and would be emitted again.
        """
        low, _ = self._reader.bounds(partition)
        high, end = self._end_of(partition)
        if high < end:
            raise UnavailableError(
                "kafka",
                f"a program has a transaction open on partition {partition} of the audit topic, which hides what is committed "
                "after it; find the program with kafka-transactions.sh, or wait until its transaction times out",
            )
        start, step = high, TAIL_STEP
        while start > low:
            start, step = max(low, start - step), step * 8
            last = self._last_from(partition, start, high)
            if last is not None:
                return last
        return None

    def _last_from(self, partition: int, start: int, high: int) -> int | None:
        """The event_id of the last record from `start` on; those above `high` count only if they come in the same batch."""
        last: bytes | None = None
        for messages in self._reader.batches({partition: start}, time.monotonic() + REQUEST_TIMEOUT_S):
            for message in messages:
                last = message.value() or last
            if (messages[-1].offset() or 0) + 1 >= high:
                break
        if last is None:
            return None
        try:
            return decode_audit(last).event_id
        except Exception:  # the decoder has many errors, and they may quote what they cannot decode
            raise LaneStoppedError(
                f"the last record of partition {partition} of the audit topic is not an audit event that this release can read; "
                "if a newer release wrote it, install that release, otherwise find out who writes to the audit topic",
                "audit_lost",
            ) from None


class LogProbe:
    """Finds the gaps in the log of the ledger. One thread."""

    def __init__(self, reader: TopicReader) -> None:
        self._reader = reader

    def gaps(self, partition: int, start: int) -> dict[int, int]:
        """Some gaps from `start` on: by the offset at which one begins, the next offset that has a record.

        It covers all records of the first batch, so that a log with a gap after each record does not need a call for each.
        Raises UnavailableError, SetupError or LaneStoppedError.
        """
        found: dict[int, int] = {}
        expected = start
        try:
            messages = next(self._reader.batches({partition: start}), [])
        except UnreadableRecordError as error:  # nothing lies before it, and the lane stops when it is there
            if error.offset <= start:
                raise
            return {start: error.offset}
        for message in messages:
            offset = message.offset() or 0
            if offset > expected:
                found[expected] = offset
            expected = offset + 1
        return found
