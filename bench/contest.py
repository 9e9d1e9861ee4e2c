"""Contenders at the same work. They take turns, A B A B, so that other work of the machine affects them alike."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from bench.measure import Measured

Role = Literal["ours", "variant", "peer", "ceiling"]  # a variant is ours, started or installed in another way


class Contender(NamedTuple):
    """Its name, how to run it, and what it does not do that Core Tables does."""

    name: str
    run: Callable[[], Measured]
    lacks: str = ""
    role: Role = "peer"


class Result(NamedTuple):
    """A run of a contender."""

    name: str
    role: Role
    lacks: str
    measured: Measured

    def __str__(self) -> str:
        return f"{self.name}: {self.measured.events_per_s:,.0f} events/s"


def interleaved(contenders: Sequence[Contender], rounds: int) -> Iterator[Result]:
    """Run every contender once, and that as often as there are rounds."""
    for _ in range(rounds):
        for contender in contenders:
            yield Result(contender.name, contender.role, contender.lacks, contender.run())
