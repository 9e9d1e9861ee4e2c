"""What must be true of a lane before it is folded, and the errors of lanes where it is not."""

from pathlib import Path
from traceback import extract_tb

from core_tables.kafka.errors import RESTORE_TOPIC
from core_tables.projection.postgres.lanes import LanePosition
from core_tables.schemas.reasons import LaneStoppedError, SetupError


def defect(where: str, error: Exception) -> LaneStoppedError:
    """The error of a lane where the code is wrong: nothing is skipped.

    The message of `error` is left out, since it may quote a payload.
    """
    frames = extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return LaneStoppedError(
        f"{where}: {type(error).__name__}{place}; this is a defect and nothing was skipped: report it with the lines before "
        "this one, install a release without it, then start `core-tables worker` again"
    )


def no_row(lane: int) -> SetupError:
    """The error of a lane that the database should have; `init` creates lanes only together with their topic."""
    return SetupError(
        f"lane {lane} has no row in os_core.lanes, though its topic is known; restore Postgres from a copy, an older one will do "
        "(docs/RELIABILITY.md, Backup)",
        "database",
    )


def check_log(row: LanePosition, start: int, log_start: int, log_end: int) -> None:
    """Check that the log has the records from `start` on. Raises LaneStoppedError."""
    if log_start > start:
        raise LaneStoppedError(
            f"lane {row.lane}: the log begins at offset {log_start}, but records from {start} on are needed; "
            f"they were deleted: {RESTORE_TOPIC}",
            "records_lost",
        )
    if log_end < row.applied:
        raise LaneStoppedError(
            f"lane {row.lane}: the log ends at offset {log_end}, but {row.applied} records were folded; "
            f"the topic lost records: {RESTORE_TOPIC}",
            "records_lost",
        )
