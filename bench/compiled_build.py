"""The compiled build, as `make build/compiled` leaves it: an unpacked wheel, put before the installed package by PYTHONPATH.

The image and the wheels are compiled, so this is what the benchmark measures: `make bench` sets PYTHONPATH for all of its
processes. A run of it is worth something only if its modules are the compiled ones, of the sources that are here.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from core_tables.projection.fold import batch
from core_tables.schemas.reasons import SetupError

ROOT: Final = Path(__file__).parents[1]
SOURCES: Final = ROOT / "src"
FOLDER: Final = ROOT / "build" / "compiled"
_PROBE: Final = """
import importlib, sys
for name in sys.argv[1:]:
    print(importlib.import_module(name).__file__)
"""


def environment(folder: Path = FOLDER) -> Mapping[str, str]:
    """What a process needs in its environment to import the compiled modules."""
    return {"PYTHONPATH": str(folder)}


def without() -> Mapping[str, str]:
    """What a process needs in its environment to import the installed package instead."""
    return {"PYTHONPATH": ""}


def runs() -> bool:
    """Whether this process imports the compiled modules."""
    return not batch.__file__.endswith(".py")


def check(folder: Path = FOLDER, sources: Path = SOURCES) -> None:
    """Raise SetupError for a build that is stale, or whose compiled modules are not the ones a worker imports.

    No build at all is fine: its runs are left out.
    """
    if not folder.exists():
        return
    built, ours = _modules(folder), _modules(sources)
    if stale := [name for name in built.keys() | ours.keys() if built.get(name) != ours.get(name)]:
        raise _unfit(folder, f"{min(stale)} is not what {sources} has")
    names = {name_of(file.relative_to(folder)): file for file in (folder / "core_tables").rglob("*.so")}
    if not names:
        raise _unfit(folder, "it has no compiled module")
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *names],
        check=False,
        env={**os.environ, **environment(folder)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise _unfit(folder, f"its modules cannot be imported: {done.stderr.strip().splitlines()[-1]}")
    for name, found in zip(names, done.stdout.splitlines(), strict=True):
        if Path(found) != names[name]:
            raise _unfit(folder, f"{name} is imported from {found}")


def _modules(folder: Path) -> dict[str, bytes]:
    """The Python modules below a folder, by path; rooms may be links."""
    found = (Path(at) / name for at, _, names in os.walk(folder / "core_tables", followlinks=True) for name in names)
    return {str(file.relative_to(folder)): file.read_bytes() for file in found if file.suffix == ".py"}


def name_of(file: Path) -> str:
    """The import name of a compiled module; the file's own ends with the interpreter's tag."""
    name = ".".join(file.with_name(file.name.partition(".")[0]).parts)
    return name.removesuffix(".__init__")


def _unfit(folder: Path, why: str) -> SetupError:
    return SetupError(
        f"the compiled build in {folder} is not fit to be measured: {why}; run `make build/compiled`", "machine"
    )
