"""Commands that the documentation shows can be typed: each exists, with its options, and each command is on a page."""

import re
import shlex
from pathlib import Path
from typing import Final, NamedTuple

import click
import pytest

from core_tables.cli.lazy_group import COMMANDS
from core_tables.cli.main import main

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])
PAGE: Final = ROOT / "docs" / "COMMAND.md"
# In backquotes, or a line that is indented as code is; ` | ` and a run of spaces end what is typed.
TYPED: Final = re.compile(r"(?:`|^ {4}|^\$ )(?:\.venv/bin/)?core-tables( [^`\n]*?)?(?=`| {2,}| \||$)", re.MULTILINE)
PLACEHOLDER: Final = re.compile(r"^[A-Z|_-]+$|^\[|^…")
# Of the group itself, and what a list of several commands in one line has.
OF_MAIN: Final = {"--help", "--version"}


class Typed(NamedTuple):
    """A command line of a page."""

    page: str
    line: str

    def words(self) -> list[str]:
        return shlex.split(self.line)


def typed(page: Path) -> list[Typed]:
    text = page.read_text("utf-8")
    return [Typed(page.name, found[1].strip()) for found in TYPED.finditer(text) if found[1]]


ALL: Final = sorted({found for page in PAGES for found in typed(page)})


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words call, and the words behind it."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        inner = command.get_command(click.Context(command), words[0])
        assert inner is not None, f"{words[0]} is no command"
        command, words = inner, words[1:]
    return command, words


def options_of(command: click.Command) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}


@pytest.mark.parametrize("found", ALL, ids=lambda found: f"{found.page}: {found.line}")
def test_a_command_that_a_page_shows_exists_with_its_options(found: Typed) -> None:
    command, rest = command_of(found.words())
    shown = {word.strip("[]").partition("=")[0] for word in rest if word.strip("[]").startswith("--")}
    assert shown <= options_of(command) | (OF_MAIN if command is main else set())


@pytest.mark.parametrize("found", typed(PAGE), ids=lambda found: found.line)
def test_a_line_of_the_page_about_the_command_can_be_typed_as_it_stands(
    found: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its arguments are read as when it is run; whether something is found is another matter."""
    monkeypatch.setenv("CORE_TABLES_TENANT", "acme")
    command, rest = command_of([word for word in found.words() if word != "|"])
    if isinstance(command, click.Group) or "--help" in rest:
        return
    command.make_context("core-tables", rest[: rest.index("|")] if "|" in rest else rest)


def test_the_search_finds_what_is_there_and_the_page_has_what_is_asked_of_it() -> None:
    pages = {found.page for found in ALL}
    assert {"README.md", "RUNBOOK.md", "COMMAND.md", "CONFIGURATION.md"} <= pages
    assert len(typed(PAGE)) > 30
    shown = {next(iter(found.words()), "") for found in ALL}
    assert set(COMMANDS) - shown == set(), "each command is on a page"
