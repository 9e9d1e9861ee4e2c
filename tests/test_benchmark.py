"""The benchmark publishes what it measured, and does not measure a compiled build that is stale or not compiled."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REPORT = """
import pathlib, sys
from bench import results
from peers import report
report.write(pathlib.Path(sys.argv[1]), results.load(pathlib.Path("docs/bench/results.json")))
"""
CHECK = """
import pathlib, sys
from bench import compiled_build
from core_tables.schemas.reasons import SetupError
try:
    compiled_build.check(pathlib.Path(sys.argv[1]))
except SetupError as error:
    print(error)
"""


def run(program: str, argument: Path) -> str:
    """Run a program next to bench/ and peers/, which are not installed; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program, argument], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout


def test_the_benchmarks_page_is_what_the_results_say(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs" / "bench", tmp_path / "bench")  # the page links the plots that are there
    page = tmp_path / "BENCHMARKS.md"
    run(REPORT, page)
    assert (ROOT / "docs" / "BENCHMARKS.md").read_text() == page.read_text(), "run `python -m peers --report-only`"


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A build of the sources that are here, with nothing compiled."""
    folder = tmp_path / "compiled"
    shutil.copytree(ROOT / "src", folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return folder


def test_without_a_compiled_build_nothing_is_refused(tmp_path: Path) -> None:
    assert run(CHECK, tmp_path / "compiled") == ""


def test_a_build_with_nothing_compiled_is_refused(build: Path) -> None:
    assert "it has no compiled module; run `make build/compiled`" in run(CHECK, build)


def test_a_build_of_other_sources_is_refused(build: Path) -> None:
    changed = build / "core_tables" / "schemas" / "wire.py"
    changed.write_text(changed.read_text() + "\n")
    assert "core_tables/schemas/wire.py is not what" in run(CHECK, build)


def test_a_compiled_module_that_cannot_be_imported_is_refused(build: Path) -> None:
    (build / "core_tables" / "schemas" / "wire.so").write_bytes(b"")
    assert "its modules cannot be imported: ImportError" in run(CHECK, build)
