"""In which order the tests run, which stay in one process where several run side by side, and what the screen says meanwhile.

Quick tests come first, so that the first failure shows within a minute; then the longest, so that no process is left with a long
one at the end. Tests that share a fixture of their module stay together; every other test may run in any process.
"""

import json
from pathlib import Path
from typing import Final

import pytest
from _pytest.nodeid import coerce_node_id

from . import leftovers
from .recovery import RecoveryReport

QUICK_S: Final = 1.0
UNIT: Final = "unit"
ROOT: Final = Path(__file__).parents[1]
STORED: Final = (
    ROOT / "tests" / "durations.json"
)  # seconds by unit, as `make test ARGS=--store-durations` measured them


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two options of ours."""
    parser.addoption("--quick", action="store_true", help="run only tests that need no stack and take a moment each")
    parser.addoption("--store-durations", action="store_true", help=f"write what the tests took to {STORED.name}")


def pytest_configure(config: pytest.Config) -> None:
    """Where the tests are run from, not in each of the processes that run them: tell how far they are, and clear up after them."""
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Groups())
    else:
        config.add_cleanup(leftovers.begin())
        config.pluginmanager.register(Progress(config))
        config.pluginmanager.register(RecoveryReport())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for, sort by what a unit takes, and tell pytest-xdist which tests stay together."""
    durations = stored_durations()
    if config.getoption("--quick"):
        quick = [item for item in items if is_quick(item, durations)]
        config.hook.pytest_deselected(items=[item for item in items if item not in quick])
        items[:] = quick
    for item in items:
        item.user_properties.append((UNIT, unit_of(item)))
        if unit_of(item) != item.nodeid:
            item.add_marker(pytest.mark.xdist_group(unit_of(item)))
    # The sort is stable: the tests of a unit stay in the order of their module.
    items.sort(key=lambda item: (0, 0.0) if is_quick(item, durations) else (1, -durations.get(unit_of(item), 0.0)))


def stored_durations() -> dict[str, float]:
    """Seconds by unit; one that is not listed takes no time worth mentioning."""
    durations: dict[str, float] = json.loads(STORED.read_text("utf-8")) if STORED.exists() else {}
    return durations


def unit_of(item: pytest.Item) -> str:
    """What a test cannot be parted from: its module, what several modules name as their group, or nothing but itself."""
    group = item.get_closest_marker("xdist_group")
    if group is not None:
        return str(group.args[0])
    fixtures = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009 - pytest has no public name for it
    shared = any(found[-1].scope != "function" and found[-1].baseid.startswith("tests") for found in fixtures)
    return item.nodeid.partition("::")[0] if shared or needs_a_stack(item) else item.nodeid


def needs_a_stack(item: pytest.Item) -> bool:
    """Whether a test talks to the real Kafka, Postgres or Redis."""
    return item.get_closest_marker("stack") is not None


def is_quick(item: pytest.Item, durations: dict[str, float]) -> bool:
    """Whether a test belongs into the inner loop."""
    return not needs_a_stack(item) and durations.get(unit_of(item), 0.0) < QUICK_S


class Groups:
    """Keeps the tests of a unit in one process, so that the fixtures of a module are made once.

    pytest-xdist 3.8 writes the name of a group where pytest 9.2 does not look any more, so it is written to the other place, too.
    """

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Give the tests of a group an id that ends with the group's name."""
        for item in items:
            if unit_of(item) != item.nodeid:
                item._id = coerce_node_id(f"{item.nodeid}@{unit_of(item)}")


class Progress:
    """An estimate at the beginning, each failure when it happens, and a record of what the tests took."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._durations: dict[str, float] = {}

    def pytest_report_header(self) -> str | None:
        """How long a run in several processes will take; which tests it has, only those processes know."""
        processes = len(self._config.getoption("tx", None) or [])
        seconds = sum(stored_durations().values()) / max(1, processes)
        return f"all tests: {_minutes(seconds)} in {processes} processes, quick ones first" if processes else None

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> str:
        """How long the chosen tests will take in this process."""
        durations = stored_durations()
        seconds = sum(durations.get(unit, 0.0) for unit in {unit_of(item) for item in items})
        return f"these tests: {_minutes(seconds)}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Say at once what failed; the whole story follows at the end."""
        unit = str(dict(report.user_properties).get(UNIT, report.nodeid))
        self._durations[unit] = self._durations.get(unit, 0.0) + report.duration
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = crash.message.splitlines()[0] if crash is not None and crash.message else report.when
            terminal = self._config.pluginmanager.getplugin("terminalreporter")
            terminal.write_line(f"\nFAILED {report.nodeid}: {reason}", red=True)

    def pytest_sessionfinish(self) -> None:
        """Write the record, if it was asked for."""
        if self._config.getoption("--store-durations"):
            durations = merged(stored_durations(), self._durations)
            STORED.write_text(json.dumps(durations, indent=1) + "\n", "utf-8")


def merged(stored: dict[str, float], measured: dict[str, float]) -> dict[str, float]:
    """The record with what was measured now; units that did not run keep their time, unless their module is gone."""
    kept = {unit: seconds for unit, seconds in stored.items() if (ROOT / unit.partition("::")[0]).exists()}
    seconds_by_unit = {**kept, **{unit: round(seconds, 1) for unit, seconds in measured.items()}}
    return {unit: seconds for unit, seconds in sorted(seconds_by_unit.items()) if seconds >= QUICK_S / 10}


def _minutes(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"about {minutes} minute{'s' if minutes > 1 else ''}"
