"""The demo, on the servers of the tests: it shows three tenants, explains what is refused, and can be run again."""

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from core_tables.cli.main import main
from core_tables.deploy import stack

from .world import World

pytestmark = pytest.mark.stack


def section(shown: str, number: int) -> str:
    """What the demo prints below the title with a number."""
    return shown.partition(f"\n{number}. ")[2].partition("\n\n")[0]


def test_the_demo_shows_three_tenants_explains_refusals_and_does_the_same_twice(
    fresh: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    monkeypatch.setattr(stack, "up", lambda _directory, _say: None)  # the servers of the tests are running
    environment = {**fresh.environment(), "CORE_TABLES_STACK_DIR": str(tmp_path), "COLUMNS": "80"}

    def ran(*arguments: str) -> Result:
        return CliRunner(env=environment).invoke(main, arguments, prog_name="core-tables")

    first, second = ran("demo"), ran("demo")
    for done in (first, second):
        assert done.exit_code == 0, done.output
        assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
    assert "61 events: 59 accepted, 1 replayed, 1 refused" in first.stdout
    assert "61 events: 0 accepted, 60 replayed, 1 refused" in second.stdout
    assert "http://127.0.0.1:8600" in first.stdout
    for tenant in ("acme-travel", "globex-grid", "initech-care"):
        assert tenant in section(first.stdout, 2)
    why = " ".join(section(first.stdout, 4).split())
    for reason in (
        "LEASE_HELD_BY_OTHER: runner-7 holds the lease",
        "OS_WORK_ORDER_CANCEL_INVALID_STATE: the work order",
    ):
        assert reason in why
    assert section(second.stdout, 4) == section(first.stdout, 4)
    assert "12 work orders compared, 0 differences" in section(second.stdout, 6)

    *_, last = second.stdout.splitlines()
    _, *arguments = shlex.split(last)
    typed = ran(*arguments)
    assert (typed.exit_code, "reserve-hotel" in typed.stdout) == (0, True), typed.output
