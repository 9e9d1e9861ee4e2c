"""Waiting until a partition is folded to the end of its log, which may be a gap that no fold passes."""

import time

from core_tables.kafka.log import LOOK_EVERY_S, PartitionLog
from core_tables.producer.waiter import OutcomeWaiter
from core_tables.schemas.reasons import UnavailableError


def wait_folded_to_end(waiter: OutcomeWaiter, lane: int, log: PartitionLog, deadline: float) -> None:
    """Return when a lane is folded up to the end that its log has now, or at `deadline` (monotonic seconds).

    If a program appended in a transaction, the log ends with a record of the broker's own or with aborted records, and
    `applied` stays below the end. So while it does, the log is asked whether any record is left. Raises UnavailableError or
    SetupError.
    """
    end = log.end(deadline)
    while True:
        until = min(deadline, time.monotonic() + LOOK_EVERY_S)
        try:
            applied = waiter.wait_folded(lane, end, until)
        except UnavailableError:
            if until == deadline:
                raise
            continue  # Postgres may come back
        if applied >= end or until == deadline or not log.holds_record(applied, end, deadline):
            return
