"""Writes deploy/requirements.lock, which the image installs: the part of requirements.lock that a worker needs to run and be built.

`make generate` writes it; a test holds the file against this.
"""

import re
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "deploy" / "requirements.lock"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]*")


def image_lock(lock: str, pyproject: str) -> str:
    """The entries of a lock file that are reached from the dependencies of a project, without its extras, and its build."""
    project = tomllib.loads(pyproject)
    wanted = {_name(text) for text in (*project["project"]["dependencies"], *project["build-system"]["requires"])}
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
    LOCK.write_text(
        image_lock((ROOT / "requirements.lock").read_text("utf-8"), (ROOT / "pyproject.toml").read_text("utf-8")),
        "utf-8",
    )
