"""Plain English: phrases that read as translated are found, and the message suggests what to write."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parent.parent
# What is scanned, as globs from the root: whole files, so prose, comments, messages and names alike. A new glob is one line.
PATHS: Final = (
    "CHANGELOG.md",
    "Makefile",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "bench/**/*.py",
    "cli/*.py",
    "console/*.py",
    "console/templates/*.html",
    "consumer/*.py",
    "deploy/*.py",
    "docs/**/*.md",
    "examples/*",
    "kafka/*.py",
    "peers/**/*.py",
    "peers/README.md",
    "producer/*.py",
    "schemas/*.py",
    "projection/fold/*.py",
    "projection/postgres/*.py",
    "projection/postgres/*/*.sql",
    "projection/cache/*.py",
    "projection/cache/lua/*.lua",
    "projection/verify/*.py",
    "src/core_tables/__init__.py",
    "tests/**/*.java",
    "tests/**/*.py",
)
# Files that may hold a phrase because their text is fixed elsewhere, with the phrases.
FIXED: Final[dict[str, frozenset[str]]] = {}
# Each phrase is a regular expression of whole words, upper or lower case; its words may be on two lines.
PHRASES: Final = {
    r"a look into": "a look at, or: reads",
    r"anew": "again, or: from scratch",
    r"as (it|they) stands?": "as it is, unchanged",
    r"aside": "in the background, separately, or: except",
    r"beside": "next to, alongside, together with, compared with",
    r"but for": "except for, apart from",
    r"by chance": "at random, or: accidentally",
    r"dear": "expensive, slow",
    r"for ever": "forever, or say how long",
    r"go(es|ing|ne)? on|went on": "continue(s), happens, or: is passed to",
    r"hear(s|d)? of": "learn(s) about, is notified of",
    r"hence": "so, therefore",
    r"holes?": "gap(s): offsets at which the log has no record",
    r"made again|makes? again": "recreated, created again",
    r"mend(s|ed|ing)?": "fix(es), repair(s)",
    r"of now": "current, present",
    r"so many": "say the number, or: as many as, that many",
    r"st(ands?|ood|anding) still": "is stopped, is suspended, makes no progress",
    r"stands? in": "is in, is stored in",
    r"take(s|n)? for": "mistake(s) for, treat(s) as",
    r"time-outs?": "timeout(s)",
    r"told": "given, expected, reported, or the name of the thing itself",
    r"thereof|therein|thereby|whereby|whereupon": "of it, in it, by this, by which, after which",
    r"whoever": "anyone who, or name the person: the caller, an operator",
}


def phrase(expression: str) -> re.Pattern[str]:
    """A phrase as whole words; where it has a space, a line may end and a comment or a quotation go on."""
    between = r"(?:\s+|\s*\n[ \t]*(?:#|--|>|\*)?[ \t]*)"
    return re.compile(rf"(?<![\w-])(?:{expression.replace(' ', between)})(?![\w-])", re.IGNORECASE)


FORBIDDEN: Final = {phrase(expression): instead for expression, instead in PHRASES.items()}


def found_in(text: str, allowed: frozenset[str] = frozenset()) -> list[str]:
    """Line, phrase and suggestion of each phrase that a text holds."""
    hits = []
    for pattern, instead in FORBIDDEN.items():
        for hit in pattern.finditer(text):
            words = " ".join(hit.group().split())
            if words.lower() not in allowed:
                line = text.count("\n", 0, hit.start()) + 1
                hits.append((line, f'line {line}: "{words}"; write instead: {instead}'))
    return [hit for _, hit in sorted(hits)]


def scanned() -> list[str]:
    """The files that PATHS names, relative to the root."""
    found = {path for glob in PATHS for path in ROOT.glob(glob)} - {Path(__file__)}  # it quotes what is forbidden
    return sorted(str(path.relative_to(ROOT)) for path in found)


@pytest.mark.parametrize("path", scanned())
def test_text_is_free_of_phrases_that_read_as_translated(path: str) -> None:
    hits = found_in((ROOT / path).read_text("utf-8"), frozenset(FIXED.get(path, ())))
    assert not hits, f"{path}:\n  " + "\n  ".join(hits)


def test_every_glob_names_a_file() -> None:
    assert [glob for glob in PATHS if not list(ROOT.glob(glob))] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kept for ever", "for ever"),
        ("# it is kept for\n# ever", "for # ever"),
        ("-- kept for\n    -- ever", "for -- ever"),
        ("it goes on", "goes on"),
        ("Whoever reads", "Whoever"),
        ("told = 1", "told"),
    ],
)
def test_a_phrase_is_found_also_across_lines_and_as_a_name(text: str, words: str) -> None:
    (hit,) = found_in(text)
    assert f'"{words}"' in hit


@pytest.mark.parametrize("text", ["untold", "for everyone", "amended", "recommend", "besides", "resides", "a dearth"])
def test_words_that_only_contain_a_phrase_are_fine(text: str) -> None:
    assert found_in(text) == []
