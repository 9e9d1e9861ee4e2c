"""The documentation names what there is: sections that are cited, links, and the public names of the reference."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import core_tables

ROOT: Final = Path(__file__).parent.parent
ROOMS: Final = ("schemas", "kafka", "projection", "producer", "consumer", "cli", "deploy")
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
    assert {number for _, number in cited} == {"1", "2", "3", "4", "5", "6", "7"}, "the search finds what is there"


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


# -- names


def test_the_reference_lists_every_public_name_once() -> None:
    listed = re.findall(r"^::: core_tables\.(\w+)$", (ROOT / "docs/reference.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(set(core_tables.__all__) - {"__version__"})
