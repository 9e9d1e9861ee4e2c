"""An installation without the extra `stack`: the commands of the local stack say what to install."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from core_tables.cli import output
from core_tables.cli.stack_packages import PACKAGES

ROOT = Path(__file__).parent.parent
CASES = [("demo", missing) for missing in PACKAGES] + [(f"stack {name}", "psutil") for name in ("up", "down", "status")]


@pytest.mark.parametrize(("command", "missing"), CASES)
def test_a_package_that_is_not_installed_is_named_in_one_line(command: str, missing: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from core_tables.cli.main import main; main({command.split()!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == output.EXIT_MACHINE, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"({missing})" in line
    assert "`pip install 'core-tables[stack]'`" in line


def test_the_packages_are_those_of_the_extra() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["stack"]
    assert sorted(re.split("[><=]", each)[0].replace("-", "_") for each in extra) == sorted(PACKAGES)
