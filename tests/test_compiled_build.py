"""The optional compiled build decides as the pure one does: the golden log, folded by the modules that mypyc compiled."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("schemas", "kafka", "projection", "settings", "producer", "consumer", "cli", "deploy")
PROBE = """
from core_tables.consumer import audit_emitter, audit_encoding, fetcher, lane, polled_batch
from core_tables.projection.cache import pending_cache
from core_tables.projection.fold import batch, collect, decide, evolve, needs
from core_tables.projection.postgres import from_rows, loading, pipeline, rows, store
from core_tables.schemas import audit, validation, wire
from tests.book import Book
from tests.golden.grow import append, outcome_json, read
for module in (
    *(audit_emitter, audit_encoding, polled_batch, fetcher, lane, batch, decide, evolve, needs),
    *(collect, pending_cache, from_rows, loading, pipeline, rows, store, audit, validation, wire),
):
    assert module.__file__.endswith(".so"), module.__file__
book = Book()
lines = list(read())
assert [outcome_json(append(book, line)) for line in lines] == [line["outcome"] for line in lines]
for decided in book.decided:
    event = audit.audit_event(decided.event_id, decided.tenant_id, decided.event, decided.outcome, decided.status_before, 5)
    audit.encode_audit(event)
print(len(lines), "records")
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is here, so there is no compiled build")
def test_the_compiled_build_decides_the_golden_log_as_it_was_decided(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a copy: a build leaves files behind
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "setup.py"):
        shutil.copy(ROOT / name, source)
    for room in ("src", *ROOMS):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / room, source / room, ignore=ignored, symlinks=True)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    environment = {**os.environ, "CORE_TABLES_COMPILED": "1", "MYPYC_OPT_LEVEL": "0", "CFLAGS": "-g0"}
    done = subprocess.run(build, capture_output=True, text=True, env=environment, cwd=source)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with ZipFile(wheel) as packed:
        packed.extractall(site)
    with_path = {**os.environ, "PYTHONPATH": os.pathsep.join((str(site), str(ROOT)))}
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, env=with_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "records" in done.stdout
