"""What drains the load: Core Tables first, then its variants and the ceilings of its parts, each into its own tables."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from bench import ceilings, compiled_build, drain, place
from bench.contest import Contender
from bench.measure import Measured
from core_tables.settings.environment import Settings

OURS: Final = "Core Tables"

# From settings, the stack's folder, and whether the run is a quick one.
Field = Callable[[Settings, Path, bool], list[Contender]]


def field(settings: Settings, folder: Path, _quick: bool) -> list[Contender]:
    """All contenders that are Core Tables or a part of it."""
    return [ours(settings, folder), *variants(settings, folder), *parts(settings, folder)]


def ours(settings: Settings, folder: Path) -> Contender:
    """Core Tables, with the load in a ledger topic."""
    return Contender(OURS, in_fresh_tables(settings, partial(drain.drain, folder=folder)), role="ours")


def variants(settings: Settings, folder: Path) -> list[Contender]:
    """Core Tables with two processes and, if the others run the compiled build, in pure Python."""
    two = ("--processes", "2")
    ways: list[tuple[str, tuple[str, ...], bool]] = [("2 processes", two, False)]
    if compiled_build.runs():
        ways += [("pure Python", (), True), ("pure Python, 2 processes", two, True)]
    runs = {name: partial(drain.drain, folder=folder, arguments=arguments, pure=pure) for name, arguments, pure in ways}
    return [Contender(f"{OURS}, {name}", in_fresh_tables(settings, run), role="variant") for name, run in runs.items()]


def parts(settings: Settings, folder: Path) -> list[Contender]:
    """The ceilings: one part of the work alone, on prepared input."""
    return [
        Contender(name, in_fresh_tables(settings, partial(run, folder=folder)), lacks, "ceiling")
        for name, run, lacks in (
            ("COPY ceiling", ceilings.copy, "only the ledger by COPY and the current records, prepared beforehand"),
            ("consume and decode", ceilings.consume, "only that"),
            ("audit transactions", ceilings.audit, "only that, encoded beforehand"),
        )
    ]


def in_fresh_tables(settings: Settings, run: Callable[[Settings], Measured]) -> Callable[[], Measured]:
    """A run in tables that are created before it and dropped after it."""

    def measured() -> Measured:
        with place.tables(settings) as made:
            return run(made)

    return measured
