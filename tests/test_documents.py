"""The documentation says what there is: cited sections, links, log lines and messages are compared with the code."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import core_tables

from .runbook import LogLine, log_lines_of_the_runbook

ROOT: Final = Path(__file__).parent.parent
ROOMS: Final = ("schemas", "kafka", "projection", "settings", "producer", "consumer", "console", "cli", "deploy")
CODE: Final = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
PAGES: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCED: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SUFFIXES: Final = {".py", ".sql", ".lua", ".avsc", ".java"}
TEXTS: Final = sorted(
    {
        *PAGES,
        *(
            path
            for room in (*ROOMS, "tests", "bench", "peers")
            for path in (ROOT / room).rglob("*")
            if path.suffix in SUFFIXES
        ),
    }
    - {Path(__file__)}
)


class Place(NamedTuple):
    """Where something was found, for a failure that can be looked up."""

    file: str
    what: str


def place(path: Path, what: str) -> Place:
    return Place(str(path.relative_to(ROOT)), what)


@cache
def prose(path: Path) -> str:
    """The text of a file, on one line: comment signs and line breaks do not cut a sentence."""
    return re.sub(r"\s*\n[ \t]*(?:#|--|>|\*)?[ \t]*", " ", path.read_text("utf-8"))


@cache
def headings(page: str) -> list[str]:
    """The headings of a page, without markup."""
    text = FENCED.sub("", (ROOT / page).read_text("utf-8"))
    found = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return [re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading) for heading in found]


# -- sections that are cited


def cited_contract_sections() -> Iterator[tuple[Place, str]]:
    """Each number of a section of the contract that a text names."""
    for path in TEXTS:
        for cited in re.finditer(
            r"contract(?:'s)?[^.\"|]{0,80}?\bsections? (\d(?:(?:, | and | to )\d)*)", prose(path), re.I
        ):
            for number in re.findall(r"\d", cited[1]):
                yield place(path, cited[0]), number
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, number in re.findall(r"def (test_s(\d+)_\w+)", path.read_text("utf-8")):
            yield place(path, name), number


def cited_headings() -> Iterator[tuple[Place, str, str]]:
    """Each heading that a text names with its page, as `docs/PAGE.md, "Heading"`, or with its first words only."""
    for path in TEXTS:
        for cited in re.finditer(r'docs/(\w+\.md), (?:"([^"]+)"|([A-Z]\w+))', prose(path)):
            yield place(path, cited[0]), f"docs/{cited[1]}", cited[2] or cited[3]
        for cited in re.finditer(r'contract, sections? \d, "([^"]+)"', prose(path)):
            yield place(path, cited[0]), "docs/CONTRACT.md", cited[1]


def test_every_section_of_the_contract_that_is_cited_exists() -> None:
    numbers = {heading.partition(".")[0] for heading in headings("docs/CONTRACT.md") if heading[0].isdigit()}
    cited = list(cited_contract_sections())
    assert [found for found, number in cited if number not in numbers] == []
    assert {number for _, number in cited} == {"1", "2", "3", "4", "5", "6", "7", "8"}, "the search finds what is there"


def test_every_heading_that_is_cited_exists() -> None:
    cited = list(cited_headings())
    assert [found for found, page, heading in cited if not any(h.startswith(heading) for h in headings(page))] == []
    assert len({heading for _, _, heading in cited}) > 1, "the search finds what is there"


# -- links


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as far as a code host and the site give a heading the same one."""
    found = set()
    for heading in headings(page):
        words = re.sub(r"[^\w\s-]", "", heading).strip().lower()
        if re.sub(r"[-\s]+", "-", words) == words.replace(" ", "-"):
            found.add(words.replace(" ", "-"))
    return found


def resolves(page: Path, link: str) -> bool:
    """Whether a relative link of a page leads to a file of the repository, and to a heading if it names one."""
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.is_relative_to(ROOT) or not target.exists():
        return False
    return not anchor or anchor in anchors(str(target.relative_to(ROOT)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_of_a_page_resolves(page: Path) -> None:
    text = FENCED.sub("", page.read_text("utf-8"))
    links = [link for link in re.findall(r"(?<!\\)\]\(([^()\s]+)\)", text) if not re.match(r"[a-z]+:", link)]
    assert [link for link in links if not resolves(page, link)] == []


# -- log lines

LEVELS: Final = {name: name for name in ("debug", "info", "warning", "error")} | {"exception": "error"}


def log_lines_of_the_code() -> Iterator[LogLine]:
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                logger = node.func.value
                name = (
                    logger.attr
                    if isinstance(logger, ast.Attribute)
                    else logger.id
                    if isinstance(logger, ast.Name)
                    else ""
                )
                if name.strip("_") == "log":
                    (code,) = node.args
                    assert isinstance(code, ast.Constant), ast.unparse(node)
                    assert isinstance(code.value, str), ast.unparse(node)
                    yield LogLine(code.value, LEVELS[node.func.attr], tuple(str(field.arg) for field in node.keywords))


def test_every_log_line_is_in_the_runbook_with_its_level_and_fields() -> None:
    documented, written = log_lines_of_the_runbook(), set(log_lines_of_the_code())
    assert written - set(documented) == set(), "these are not in the runbook"
    assert set(documented) - written == set(), "these are in the runbook only"
    assert len({line.event for line in documented}) == len(documented)


# -- messages

ERRORS: Final = {"LaneStoppedError", "SetupError", "UnknownSchemaError"}
OPERATORS: Final = ("consumer", "kafka", "projection/postgres", "schemas", "cli/wiring.py", "cli/worker_wiring.py")


def message(node: ast.AST) -> str | None:
    """A text as it is written, with … for each value that is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


@cache
def messages() -> frozenset[str]:
    """Every text in the code."""
    nodes = chain.from_iterable(ast.walk(ast.parse(path.read_text("utf-8"))) for path in CODE)
    return frozenset(text for node in nodes if (text := message(node)) is not None)


def quoted_messages() -> list[str]:
    """The messages that the runbook quotes, one a line in a block of text."""
    blocks = re.findall(r"^```text\n(.*?)^```", (ROOT / "docs/RUNBOOK.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("quoted", quoted_messages())
def test_a_message_that_the_runbook_quotes_is_in_the_code(quoted: str) -> None:
    assert any(quoted in text for text in messages())


def messages_of_stops() -> Iterator[Place]:
    """What errors say that waiting does not cure, where an operator could meet them."""
    for path in CODE:
        if str(path.relative_to(ROOT)).startswith(OPERATORS):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in ERRORS
                    and node.args
                ):
                    text = message(node.args[0])
                    if text is not None:
                        yield place(path, text)


def test_every_message_of_a_stop_has_its_paragraph_in_the_runbook() -> None:
    quoted, stops = quoted_messages(), list(messages_of_stops())
    assert [stop for stop in stops if not any(quote in stop.what for quote in quoted)] == []
    assert len(stops) > 20, "the search finds what is there"


# -- the page for maintainers

ARCHITECTURE: Final = FENCED.sub("", (ROOT / "docs/ARCHITECTURE.md").read_text("utf-8"))
FILE: Final = re.compile(r"(?:[\w.-]+/)*[\w-]+(?:/|\.(?:py|sql|lua|md|avsc|toml|lock|jsonl?))|[\w./-]+/")


def file_map() -> set[str]:
    """The modules that the file map names, below the heading of their room."""
    text = ARCHITECTURE.partition("\n## File map\n")[2].partition("\n## ")[0]
    parts = re.split(r"^### (\w+)\n", text, flags=re.MULTILINE)
    rooms = zip(parts[1::2], parts[2::2], strict=True)
    return {f"{room}/{name}" for room, part in rooms for name in re.findall(r"`([\w/]+\.py)`", part)}


def exists(name: str) -> bool:
    """Whether a file or folder is there: from the root, from a room, or, given a file's bare name, anywhere in the rooms."""
    if (ROOT / name).exists() or any((ROOT / room / name).exists() for room in ROOMS):
        return True
    return "/" not in name and any(path.name == name for path in TEXTS)


def test_every_file_that_the_architecture_names_exists() -> None:
    named = {name for name in re.findall(r"`([^`\n]+)`", ARCHITECTURE) if FILE.fullmatch(name)}
    assert {name for name in named if not exists(name)} == set()
    assert len(named) > 100, "the search finds what is there"


def test_every_name_of_the_code_that_the_architecture_mentions_exists() -> None:
    words = set(re.findall(r"\w+", " ".join(path.read_text("utf-8") for path in TEXTS if path.suffix != ".md")))
    named = {name for name in re.findall(r"`([\w.]+)(?:\(\))?`", ARCHITECTURE) if not FILE.fullmatch(name)}
    assert {name for name in named if not set(name.split(".")) <= words} == set()
    assert len(named) > 50, "the search finds what is there"


def test_the_file_map_has_every_module() -> None:
    modules = {str(path.relative_to(ROOT)) for path in CODE if path.name != "__init__.py"}
    assert modules - file_map() == set(), "these are not in the map"
    assert file_map() - modules == set(), "these are in the map only"


# -- names


def test_the_reference_lists_every_public_name_once() -> None:
    listed = re.findall(r"^::: core_tables\.(\w+)$", (ROOT / "docs/reference.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(set(core_tables.__all__) - {"__version__"})
