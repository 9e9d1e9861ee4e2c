"""How long it takes to come back from each fault: measured by the tests, told at the end (never asserted).

`make faults` repeats the suite (FAULT_ROUNDS), so that median and maximum mean something.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

Recovery = Callable[[str], AbstractContextManager[None]]

_seconds: dict[str, list[float]] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat each test as often as FAULT_ROUNDS says."""
    rounds = int(os.environ.get("FAULT_ROUNDS", "1"))
    if rounds > 1:
        metafunc.fixturenames.append("fault_round")
        metafunc.parametrize("fault_round", range(1, rounds + 1), ids=lambda number: f"round {number}")


@pytest.fixture
def recovery() -> Recovery:
    """`with recovery(fault):` from the end of a fault until everything is folded and audited again."""

    @contextmanager
    def measure(fault: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        _seconds.setdefault(fault, []).append(time.monotonic() - started)

    return measure


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The recovery times, as a table; FAULT_REPORT names a file that gets them as JSON."""
    if not _seconds:
        return
    terminalreporter.section("seconds from the end of a fault until all is folded and audited")
    for fault, seconds in sorted(_seconds.items()):
        terminalreporter.write_line(
            f"{fault:<60} n {len(seconds):>3}   p50 {statistics.median(seconds):6.1f}   max {max(seconds):6.1f}"
        )
    if report := os.environ.get("FAULT_REPORT"):
        Path(report).write_text(json.dumps(_seconds, indent=2, sort_keys=True) + "\n", "utf-8")
