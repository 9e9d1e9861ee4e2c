"""What docs/RUNBOOK.md says about the log, for the tests that compare the code and a run with it."""

import re
from pathlib import Path
from typing import Final, NamedTuple

RUNBOOK: Final = Path(__file__).parent.parent / "docs" / "RUNBOOK.md"


class LogLine(NamedTuple):
    """A kind of line of the worker's log."""

    event: str
    level: str
    fields: tuple[str, ...]


def log_lines_of_the_runbook() -> list[LogLine]:
    """The table of log lines."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    return [LogLine(event, level, tuple(fields.replace(",", " ").split())) for event, level, fields in rows]
