"""What drains the load in the whole benchmark: Core Tables, its peers, and the ceilings."""

from functools import partial
from pathlib import Path

from bench import contenders
from bench.contest import Contender
from core_tables.settings.environment import Settings
from peers import connect, plain, quix


def field(settings: Settings, folder: Path, quick: bool) -> list[Contender]:
    """All contenders; without Kafka Connect, which starts slowly, when quick."""
    peers = [
        Contender(peer.NAME, contenders.in_fresh_tables(settings, partial(peer.run, folder=folder)), peer.LACKS)
        for peer in (quix, plain, *(() if quick else (connect,)))
    ]
    ours, variants = contenders.ours(settings, folder), contenders.variants(settings, folder)
    return [ours, *variants, *peers, *contenders.parts(settings, folder)]
