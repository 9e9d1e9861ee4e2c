"""`--help`, as a terminal of 80 columns shows it: nothing is cut, and everything is explained."""

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from core_tables.cli.lazy_group import COMMANDS
from core_tables.cli.main import main


def commands(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and its subcommands, each with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands((*path, name), inner)


ALL = dict(commands((), main))


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "core-tables")
def test_help_fits_80_columns_and_no_summary_is_cut(path: tuple[str, ...]) -> None:
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(main, [*path, "--help"], prog_name="core-tables")
    assert shown.exit_code == 0, shown.output
    assert max(len(line) for line in shown.output.splitlines()) <= 80
    assert "..." not in shown.output.replace("[ARGS]...", "")
    assert [line for line in shown.output.splitlines() if re.search(r"\w-$", line)] == [], "no word is broken"


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "core-tables")
def test_every_command_and_every_option_has_its_help(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert command.help
    assert [each.name for each in command.params if isinstance(each, click.Option) and not each.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_command_says(name: str) -> None:
    command = ALL[(name,)]
    assert COMMANDS[name].line == command.get_short_help_str(110)


def test_help_does_not_wait_for_the_clients() -> None:
    program = "import sys; from core_tables.cli.main import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert {"confluent_kafka", "psycopg", "pydantic", "redis"}.isdisjoint(done.stdout.split())


@pytest.mark.parametrize("module", ["read", "history", "due", "listing", "tenants", "error_lines"])
def test_a_command_that_reads_tables_does_not_wait_for_kafka_and_redis(module: str) -> None:
    program = f"import sys, core_tables.cli.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert {"confluent_kafka", "redis"}.isdisjoint(done.stdout.split())
