"""Waiting until a partition is folded to the end of its log, which may be a gap: nobody folds that."""

import time

from core_tables.kafka.log import LOOK_EVERY_S, PartitionLog
from core_tables.producer.outcomes import OutcomeWaiter
from core_tables.schemas.reasons import UnavailableError


def wait_folded(waiter: OutcomeWaiter, lane: int, log: PartitionLog, deadline: float) -> None:
    """Return when a lane is folded up to the end that its log has now, or else at `deadline` (monotonic seconds).

    A log that somebody appended to in a transaction ends with a record of the broker's own, or with aborted ones: `applied`
    stays below the end then. So while it does, the log is asked whether a record is left. Raises UnavailableError or
    SetupError.
    """
    end = log.end()
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
