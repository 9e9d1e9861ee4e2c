"""What must be true of a lane before a worker folds it."""

from core_tables.kafka.errors import RESTORE_TOPIC
from core_tables.projection.postgres.store import LanePosition
from core_tables.schemas.reasons import LaneStoppedError, SetupError


def defect(where: str, error: Exception) -> LaneStoppedError:
    """The error of a lane where we are wrong: nothing of the record is skipped."""
    return LaneStoppedError(
        f"{where}: {error!r}; this is a defect and nothing was skipped: report it with the lines before this one, install a "
        "release without it, then start `core-tables worker` again"
    )


def no_row(lane: int) -> SetupError:
    """The error of a lane that the database ought to know; `init` makes lanes with their topic only."""
    return SetupError(
        f"lane {lane} has no row in os_core.lanes, though its topic is known; restore Postgres from a copy, an older one will do "
        "(docs/RELIABILITY.md, Backup)",
        "database",
    )


def check_log(position: LanePosition, start: int, log_start: int, log_end: int) -> None:
    """The records from `start` on must be in the log. Raises LaneStoppedError."""
    if log_start > start:
        raise LaneStoppedError(
            f"lane {position.lane}: the log begins at offset {log_start}, but records from {start} on are needed; "
            f"they were deleted: {RESTORE_TOPIC}"
        )
    if log_end < position.applied:
        raise LaneStoppedError(
            f"lane {position.lane}: the log ends at offset {log_end}, but {position.applied} records were folded; "
            f"the topic lost records: {RESTORE_TOPIC}"
        )
