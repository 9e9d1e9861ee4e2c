"""Peer: Quix Streams 3 with a stateful fold and its PostgreSQLSink (quix_program.py)."""

import os
import tempfile
from pathlib import Path
from typing import Final

from bench import place
from bench.peers.watch import ROOT, PeerRun, Program, measured
from core_tables.cli import wiring
from core_tables.cli.settings import Settings

NAME: Final = "Quix Streams"
LACKS: Final = (
    "at-least-once, a transaction for each table and partition; no refusals, attempts, leases, outcomes, cache or audit; "
    "its states are JSON in RocksDB, kept in a changelog topic too"
)


def run(settings: Settings, folder: Path, total_events: int) -> PeerRun:
    """Let it drain the ledger topic into the tables of a fresh run. QUIX_PYTHON names an environment elsewhere."""
    python = os.environ.get("QUIX_PYTHON") or str(ROOT / ".venv-quix" / "bin" / "python")
    if not Path(python).exists():
        raise RuntimeError(f"{python} is not there: Quix needs the environment of bench/peers/requirements-quix.txt")
    try:
        with tempfile.TemporaryDirectory() as states:
            command = [python, "-m", "bench.peers.quix_program", states]
            program = Program(command, place.environment(settings))
            return measured((NAME, LACKS), settings, folder, program, total_events)
    finally:
        _drop_changelogs(settings)


def _drop_changelogs(settings: Settings) -> None:
    admin = wiring.admin_client(settings)
    made = [
        name for name in admin.list_topics(timeout=10).topics if name.startswith(f"changelog__{settings.group_id}--")
    ]
    if made:
        for future in admin.delete_topics(made).values():
            future.result()
