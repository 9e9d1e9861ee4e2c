"""The sections of the benchmark: each runs its rounds and gives its rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from bench import (
    appends,
    brokers,
    contenders,
    contest,
    events,
    giants,
    growth,
    latency,
    lists,
    neighbours,
    place,
    reads,
    results,
    spread,
    upkeep,
)
from bench.results import Row
from core_tables.deploy.stack import StackAddresses
from core_tables.schemas.events import LedgerEvent
from core_tables.settings.environment import Settings
from tests.cluster import NODES

MORE: Final = 5  # for what differs much from round to round
ROUNDS: Final = 3
FEWER: Final = 2  # for what takes long and differs little from round to round


class Plan(NamedTuple):
    """How much is run, and where; `say` shows a line of progress."""

    stack: StackAddresses
    folder: Path
    events: int
    rounds: int | None  # of each section; None: as many as its medians need
    quick: bool
    real_input: Path | None
    field: contenders.Field
    say: Callable[[str], None]


def drain(plan: Plan) -> list[Row]:
    """All contenders with the load; then Core Tables alone with the other loads."""
    settings = _loaded(plan, "drain", f"{plan.events:,} events", events.day(plan.events))
    plan.say("a run to warm up broker and database, which is not counted")
    contenders.ours(settings, plan.folder).run()
    rows = _drained(plan, f"{plan.events:,} events", plan.field(settings, plan.folder, plan.quick))
    others: dict[str, Iterable[LedgerEvent]] = {}
    if not plan.quick:
        others["1,000,000 events"] = events.day(1_000_000)
    if plan.real_input is not None:
        others["real input"] = events.real_input(plan.real_input)
    for name, load in others.items():
        settings = _loaded(plan, f"drain-{len(rows)}", name, load)
        rows += _drained(plan, name, [contenders.ours(settings, plan.folder)], usual=1)
    return rows


def latencies(plan: Plan) -> list[Row]:
    """From append to known outcome, compared with the bare loop."""
    rates, seconds, alone = ((1000,), 4.0, 100) if plan.quick else ((100, 1000, 3000), 12.0, 1000)
    settings = place.topic_of(plan.stack, "latency")
    return _rounds(plan, lambda: latency.measure(settings, rates, seconds, alone), ("name", "rate"))


def appending(plan: Plan) -> list[Row]:
    """Appends, by what is waited for."""
    alone, many = (200, 10_000) if plan.quick else (1000, 50_000)
    settings = place.topic_of(plan.stack, "appends")
    return _rounds(plan, lambda: appends.measure(settings, alone, many), ("what",), FEWER)


def reading(plan: Plan) -> list[Row]:
    """Reads, by kind, number of open orders and number of clients."""
    sizes, clients, seconds = ((10_000,), (1, 16), 1.0) if plan.quick else ((10_000, 1_000_000), reads.CLIENTS, 3.0)
    settings = _topic(plan, "reads")
    keys = ("kind", "open_orders", "clients")
    return _rounds(plan, lambda: reads.measure(settings, plan.folder, sizes, clients, seconds), keys, MORE)


def listing(plan: Plan) -> list[Row]:
    """The first ten of a pending list, by its size."""
    sizes, times = ((10, 10_000, 100_000), 500) if plan.quick else ((10, 10_000, 1_000_000), 4000)
    settings = _topic(plan, "lists")
    return _rounds(plan, lambda: lists.measure(settings, sizes, times), ("open_orders",))


def indexing(plan: Plan) -> list[Row]:
    """What the index of pending lists costs the drain."""
    count = min(plan.events, 100_000) // (4 if plan.quick else 1)
    loads = [
        ("four of ten", _loaded(plan, "index", f"{count:,} events", events.day(count))),
        (
            "nine of ten",
            _loaded(plan, "index-pending", f"{count:,} events", events.day(count, life=events.PENDING_LIFE)),
        ),
    ]
    return _rounds(plan, lambda: lists.drains(loads, plan.folder), ("pending_events", "indexed"))


def keeping(plan: Plan) -> list[Row]:
    """Verify and rebuild, idle and under load."""
    settings, count = place.topic_of(plan.stack, "upkeep"), 10_000 if plan.quick else 200_000
    return _rounds(plan, lambda: upkeep.measure(settings, count), ("what", "live_rate"), FEWER)


def growing(plan: Plan) -> list[Row]:
    """The same load on small, large and very large tables."""
    sizes = (10_000, 1_000_000) if plan.quick else (10_000, 1_000_000, 10_000_000)
    count, seconds = (20_000, 3.0) if plan.quick else (min(plan.events, 200_000), 8.0)
    settings = _loaded(plan, "growth", f"{count:,} events", events.day(count))
    with growth.databases(settings, sizes, plan.say):
        return _rounds(plan, lambda: growth.measure(settings, plan.folder, sizes, seconds), ("rows",))


def several(plan: Plan) -> list[Row]:
    """The same load with more workers."""
    settings = _loaded(plan, "workers", f"{plan.events:,} events", events.day(plan.events))
    counts = (1, 2) if plan.quick else growth.WORKERS
    return _rounds(plan, lambda: growth.several(settings, plan.folder, counts), ("workers",), FEWER)


def spreading(plan: Plan) -> list[Row]:
    """The same load into one database, and into two on servers of their own."""
    settings = _loaded(plan, "databases", f"{plan.events:,} events", events.day(plan.events))
    with spread.second_server(plan.stack, plan.folder) as server:
        return _rounds(plan, lambda: spread.measure(settings, plan.folder, server), ("databases",), FEWER)


def neighbouring(plan: Plan) -> list[Row]:
    """Ordinary work orders next to what is a thousand times larger than usual."""
    size, backlog, seconds = (giants.LARGE, 40_000, 24.0)
    if plan.quick:
        size, backlog, seconds = size._replace(open=50_000), 10_000, 2.0
    settings = place.topic_of(plan.stack, "neighbours")
    with neighbours.databases(settings, size, plan.say):
        runs = partial(neighbours.measure, settings, plan.folder, size, backlog, seconds)
        return _rounds(plan, runs, ("large",), MORE)


def breaking(plan: Plan) -> list[Row]:
    """Three brokers of its own, of which one after the other is killed under load; one round, since it has a round of brokers."""
    nodes, rate, seconds = (NODES[:1], 300.0, 12.0) if plan.quick else (NODES, 500.0, 25.0)
    settings = place.topic_of(plan.stack, "brokers")
    found = brokers.measure(settings, plan.folder, nodes, rate, seconds)
    return results.medians(_shown(plan, found), ("node", "phase"))


SECTIONS: Final[dict[str, Callable[[Plan], list[Row]]]] = {
    "drain": drain,
    "latency": latencies,
    "appends": appending,
    "reads": reading,
    "lists": listing,
    "index": indexing,
    "upkeep": keeping,
    "growth": growing,
    "workers": several,
    "databases": spreading,
    "neighbours": neighbouring,
    "brokers": breaking,
}


def _topic(plan: Plan, name: str) -> Settings:
    """An empty ledger topic, set up as `init` does."""
    settings = place.own_topic(place.topic_of(plan.stack, name))
    with place.tables(settings):
        return settings


def _loaded(plan: Plan, name: str, what: str, load: Iterable[LedgerEvent]) -> Settings:
    """A ledger topic that holds a load."""
    settings = _topic(plan, name)
    plan.say(f"writing {what}")
    events.write(settings, load)
    return settings


def _drained(plan: Plan, load: str, field: Sequence[contest.Contender], usual: int = ROUNDS) -> list[Row]:
    runs = contest.interleaved(field, _count(plan, usual))
    return [{"waiting": load, **row} for row in results.medians(_shown(plan, runs), ("name",))]


def _rounds(
    plan: Plan, measure: Callable[[], Iterator[NamedTuple]], keys: Sequence[str], usual: int = ROUNDS
) -> list[Row]:
    """The medians of all rounds, a row for each combination of keys."""
    return results.medians(_shown(plan, (run for _ in range(_count(plan, usual)) for run in measure())), keys)


def _count(plan: Plan, usual: int) -> int:
    """How many rounds: those that were asked for, else one if it is to be quick, else what is usual."""
    return plan.rounds or (1 if plan.quick else usual)


def _shown(plan: Plan, runs: Iterable[NamedTuple]) -> Iterator[NamedTuple]:
    for run in runs:
        plan.say(str(run))
        yield run
