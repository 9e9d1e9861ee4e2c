"""Contenders at the same work: run in turn, A B A B, so that what else the machine does meets all of them alike."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

Role = Literal["ours", "variant", "peer", "ceiling"]  # a variant is ours, started or installed otherwise


class Measured(NamedTuple):
    """One run. CPU is microseconds per event, and nothing (None) where it was not looked at."""

    events: int
    seconds: float
    events_per_s: float
    worker_us: float | None
    postgres_us: float | None
    kafka_us: float | None
    redis_us: float | None
    peak_mb: float | None
    load: float

    @classmethod
    def of(cls, run: Any) -> "Measured":
        """From a named tuple that has these figures, or some of them; seconds follow from the rate."""
        told = run._asdict()
        told.setdefault("seconds", run.events / run.events_per_s)
        return cls(*(told.get(name) for name in cls._fields))


class Contender(NamedTuple):
    """Who does the work, how to let it, and what it does less than we do."""

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


def interleaved(contenders: Sequence[Contender], rounds: int) -> Iterator[Result]:
    """Every contender once, and all of it again."""
    for _ in range(rounds):
        for contender in contenders:
            yield Result(contender.name, contender.role, contender.lacks, contender.run())
