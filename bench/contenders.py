"""Who drains the load: ours first, then the peers and the ceilings, each in tables of its own."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench import ceilings, drain, place
from bench.contest import Contender, Measured
from bench.peers import connect, plain, quix
from core_tables.cli.settings import Settings

OURS: Final = "Core Tables"


def ours(settings: Settings, folder: Path) -> Contender:
    """Ours, at the load that waits in a ledger topic."""
    return Contender(OURS, _in_fresh_tables(settings, partial(drain.drain, folder=folder)), role="ours")


def variants(settings: Settings, folder: Path) -> list[Contender]:
    """Ours with two processes, and where `make bench` built it, compiled."""
    two = partial(drain.drain, folder=folder, arguments=("--processes", "2"))
    found = [Contender(f"{OURS}, 2 processes", _in_fresh_tables(settings, two), role="variant")]
    if place.COMPILED.exists():
        compiled = partial(drain.drain, folder=folder, compiled=True)
        both = partial(two, compiled=True)
        found += [
            Contender(f"{OURS}, compiled", _in_fresh_tables(settings, compiled), role="variant"),
            Contender(f"{OURS}, compiled, 2 processes", _in_fresh_tables(settings, both), role="variant"),
        ]
    return found


def field(settings: Settings, folder: Path, events: int, *, quick: bool) -> list[Contender]:
    """All contenders at the load that waits in a ledger topic; without Kafka Connect, which starts slowly, when quick."""
    peers = [
        Contender(
            peer.NAME, _in_fresh_tables(settings, partial(peer.run, folder=folder, total_events=events)), peer.LACKS
        )
        for peer in (quix, plain, *(() if quick else (connect,)))
    ]
    parts = [
        Contender(name, _in_fresh_tables(settings, partial(run, folder=folder)), lacks, "ceiling")
        for name, run, lacks in (
            ("COPY ceiling", ceilings.copy, "only the ledger by COPY and the current records, prepared beforehand"),
            ("consume and decode", ceilings.consume, "only that"),
            ("audit transactions", ceilings.audit, "only that, encoded beforehand"),
        )
    ]
    return [ours(settings, folder), *variants(settings, folder), *peers, *parts]


def _in_fresh_tables(settings: Settings, run: Callable[[Settings], Any]) -> Callable[[], Measured]:
    def measured() -> Measured:
        made = place.fresh(settings)
        try:
            return Measured.of(run(made))
        finally:
            place.drop(made)

    return measured
