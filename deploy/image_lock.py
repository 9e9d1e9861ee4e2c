"""Writes deploy/requirements.lock, with which the image runs, and deploy/build-requirements.lock, with which it is built.

Both are parts of requirements.lock. `make generate` writes them; a test holds the files against this.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]*")


def image_locks(lock: str, pyproject: str) -> Mapping[Path, str]:
    """The files with their content, of the lock file and pyproject.toml of a project."""
    given = tomllib.loads(pyproject)
    extras = given["project"]["optional-dependencies"]
    return {
        ROOT / "deploy" / "requirements.lock": _reached(
            lock, [*given["project"]["dependencies"], *extras["console"], *extras["otel"]]
        ),
        ROOT / "deploy" / "build-requirements.lock": _reached(lock, extras["image"]),
    }


def _reached(lock: str, requirements: list[str]) -> str:
    """The entries of a lock file that are reached from the requirements."""
    wanted = {_name(text) for text in requirements}
    entries = re.findall(r"^[a-z0-9].*\n(?:[ ].*\n?)+", lock, re.MULTILINE)
    while True:
        chosen = [entry for entry in entries if _name(entry) in wanted or wanted & _parents(entry)]
        found = {_name(entry) for entry in chosen}
        if found <= wanted:
            return "".join(chosen)
        wanted |= found


def _name(text: str) -> str:
    """The package that an entry, or a requirement, begins with."""
    found = _NAME.match(text.lower().replace("_", "-"))
    assert found is not None, text  # noqa: S101
    return found.group()


def _parents(entry: str) -> set[str]:
    """The packages that an entry is needed by, as its comment says."""
    _, _, via = entry.partition("# via")
    return {_name(line.strip(" #")) for line in via.splitlines() if _NAME.match(line.strip(" #"))}


if __name__ == "__main__":
    wanted = image_locks((ROOT / "requirements.lock").read_text("utf-8"), (ROOT / "pyproject.toml").read_text("utf-8"))
    for path, content in wanted.items():
        path.write_text(content, "utf-8")
