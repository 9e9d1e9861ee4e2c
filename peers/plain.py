"""Peer: a plain consumer, as a competent team writes it in a day (plain_program.py)."""

import sys
from pathlib import Path
from typing import Final

from bench import place
from bench.measure import Measured
from core_tables.settings.environment import Settings
from peers.watch import Program, measured

NAME: Final = "plain consumer"
LACKS: Final = (
    "at-least-once; no refusals, attempts, leases, outcomes, cache or audit; no fence against a second owner; "
    "keeps every work order it has seen in memory"
)


def run(settings: Settings, folder: Path) -> Measured:
    """Let it drain the ledger topic into the tables of a fresh run."""
    command = [sys.executable, "-m", "peers.plain_program"]
    program = Program(command, place.environment(settings))
    return measured(settings, folder, program)
