"""Peer: Quix Streams 3 with a stateful fold and its PostgreSQLSink (quix_program.py)."""

import os
import tempfile
from pathlib import Path
from typing import Final

from bench import place
from bench.measure import Measured
from core_tables.kafka.clients import admin_client
from core_tables.settings.environment import Settings
from peers.watch import ROOT, Program, measured

NAME: Final = "Quix Streams"
LACKS: Final = (
    "at-least-once, a transaction for each table and partition; no refusals, attempts, leases, outcomes, cache or audit; "
    "its states are JSON in RocksDB, kept in a changelog topic too"
)
PYTHON: Final = Path(os.environ.get("QUIX_PYTHON") or ROOT / ".venv-quix" / "bin" / "python")


def run(settings: Settings, folder: Path) -> Measured:
    """Let it drain the ledger topic into the tables of a fresh run."""
    try:
        with tempfile.TemporaryDirectory() as states:
            command = [str(PYTHON), "-m", "peers.quix_program", states]
            return measured(settings, folder, Program(command, place.environment(settings)))
    finally:
        _drop_changelogs(settings)


def _drop_changelogs(settings: Settings) -> None:
    admin, prefix = admin_client(settings.kafka_settings()), f"changelog__{settings.group_id}--"
    topics = [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]
    if topics:
        for future in admin.delete_topics(topics).values():
            future.result()
