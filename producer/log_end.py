"""Waiting until a partition is folded to the end of its log, which may be a gap."""

import time
from contextlib import suppress

from core_tables.kafka.log import LOOK_EVERY_S, PartitionLog
from core_tables.producer.waiter import OutcomeWaiter
from core_tables.schemas.reasons import UnavailableError


def wait_folded_to_end(waiter: OutcomeWaiter, lane: int, log: PartitionLog, deadline: float) -> None:
    """Return when a lane is folded up to the current end of its log.

    If a program appended in a transaction, the log ends with a gap: the transaction's marker, or aborted records. Then
    `applied` stays below the end, so the log is asked whether any record is left.

    Raises SetupError, and UnavailableError at `deadline` (monotonic seconds), when the rest of the log is still unknown.
    """
    stable, end = log.end(deadline)
    while True:
        until = min(deadline, time.monotonic() + LOOK_EVERY_S)
        try:
            applied = waiter.wait_folded(lane, end, until)
        except UnavailableError:
            if until == deadline:
                raise
            continue  # Postgres may answer again before the deadline
        if applied >= end or (stable == end and not log.holds_record(applied, end, deadline)):
            return
        if until == deadline:
            raise UnavailableError("kafka", _NOT_FOLDED if stable == end else _OPEN_TRANSACTION)
        if stable < end:
            with suppress(UnavailableError):  # asked again, until the deadline
                stable = min(end, log.end(deadline).stable)


_NOT_FOLDED = (
    "what was appended to this partition is not folded yet, so it is not known whether the work order exists; check that a "
    "worker is running (`core-tables status`), then try again"
)
_OPEN_TRANSACTION = (
    "a program has a transaction open on this partition, and what was appended after its start is not folded until it ends, so "
    "it is not known whether the work order exists; try again later"
)
