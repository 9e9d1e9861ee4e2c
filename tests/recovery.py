"""How long it takes to come back from each fault: measured by the tests, reported at the end (never asserted).

`make faults` repeats the suite (FAULT_ROUNDS), so that median and maximum mean something.
"""

import json
import os
import statistics
from pathlib import Path
from typing import Any, Final

import pytest

RECOVERY: Final = "recovery"


class RecoveryReport:
    """Collects what the tests measured, whichever process they ran in."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the times of a test that passed its call."""
        measured: list[Any] = [value for name, value in report.user_properties if name == RECOVERY]
        if report.when == "call":
            for fault, seconds in measured:
                self._seconds.setdefault(fault, []).append(seconds)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The recovery times, as a table; FAULT_REPORT names a file that gets them as JSON."""
        if not self._seconds:
            return
        terminalreporter.section("seconds from the end of a fault until all is folded and audited")
        for fault, seconds in sorted(self._seconds.items()):
            terminalreporter.write_line(
                f"{fault:<60} n {len(seconds):>3}   p50 {statistics.median(seconds):6.1f}   max {max(seconds):6.1f}"
            )
        if report := os.environ.get("FAULT_REPORT"):
            Path(report).write_text(json.dumps(self._seconds, indent=2, sort_keys=True) + "\n", "utf-8")
