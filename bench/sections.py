"""The sections of the benchmark: each runs its rounds and gives its rows."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from bench import appends, contenders, contest, events, growth, latency, place, reads, results, upkeep
from bench.results import Row
from core_tables.cli.settings import Settings
from core_tables.deploy.stack import StackAddresses
from core_tables.schemas.events import LedgerEvent

T = TypeVar("T")


class Plan(NamedTuple):
    """How much is run, where, and where progress is told."""

    stack: StackAddresses
    folder: Path
    events: int
    rounds: int
    quick: bool
    real_input: Path | None
    field: contenders.Field
    say: Callable[[str], None]


def drain(plan: Plan) -> list[Row]:
    """All contenders with the load; then ours alone with the other loads."""
    settings = _topic(plan, "drain")
    plan.say(f"writing {plan.events:,} events")
    events.write(settings, events.day(plan.events))
    plan.say("a run that warms broker and database up, and is not counted")
    contenders.ours(settings, plan.folder).run()
    runs = contest.interleaved(plan.field(settings, plan.folder, plan.quick), plan.rounds)
    rows = _with_load(f"{plan.events:,} events", _told(plan, runs, _contender))
    others: dict[str, Iterable[LedgerEvent]] = {}
    if not plan.quick:
        others["1,000,000 events"] = events.day(1_000_000)
    if plan.real_input is not None:
        others["real input"] = events.real_input(plan.real_input)
    for name, load in others.items():
        settings = _topic(plan, f"drain-{len(rows)}")
        plan.say(f"writing {name}")
        events.write(settings, load)
        ours = [contenders.ours(settings, plan.folder)]
        rows += _with_load(name, _told(plan, contest.interleaved(ours, plan.rounds), _contender))
    return rows


def latencies(plan: Plan) -> list[Row]:
    """From append to outcome known, beside the bare loop."""
    rates, seconds, alone = ((1000,), 4.0, 100) if plan.quick else ((100, 1000, 3000), 20.0, 1000)
    settings = place.topic_of(plan.stack, "latency")
    runs = (run for _ in range(plan.rounds) for run in latency.measure(settings, rates, seconds, alone))
    return results.medians(_told(plan, runs, _latency), ("name", "rate"))


def appending(plan: Plan) -> list[Row]:
    """Appends by what is waited for."""
    alone, many = (200, 10_000) if plan.quick else (1000, 50_000)
    settings = place.topic_of(plan.stack, "appends")
    runs = (run for _ in range(plan.rounds) for run in appends.measure(settings, alone, many))
    return results.medians(_told(plan, runs, lambda run: f"{run.what}: {run.events_per_s:,.0f}/s"), ("what",))


def reading(plan: Plan) -> list[Row]:
    """Reads by kind, number of open orders and of clients."""
    sizes, clients, seconds = ((10_000,), (1, 16), 1.0) if plan.quick else ((10_000, 1_000_000), reads.CLIENTS, 5.0)
    settings = _topic(plan, "reads")
    runs = (run for _ in range(plan.rounds) for run in reads.measure(settings, sizes, clients, seconds))
    return results.medians(_told(plan, runs, _read), ("kind", "open_orders", "clients"))


def keeping(plan: Plan) -> list[Row]:
    """Verify and rebuild, idle and under load."""
    settings, count = place.topic_of(plan.stack, "upkeep"), 10_000 if plan.quick else 200_000
    runs = (run for _ in range(plan.rounds) for run in upkeep.measure(settings, count))
    return results.medians(_told(plan, runs, _upkeep), ("what", "live_rate"))


def growing(plan: Plan) -> list[Row]:
    """The same load on tables that hold little, much and very much."""
    sizes = (10_000, 1_000_000) if plan.quick else (10_000, 1_000_000, 10_000_000)
    count, seconds = (20_000, 3.0) if plan.quick else (min(plan.events, 200_000), 10.0)
    settings = _topic(plan, "growth")
    events.write(settings, events.day(count))
    try:
        growth.prepare(settings, sizes, plan.say)
        runs = (run for _ in range(plan.rounds) for run in growth.measure(settings, plan.folder, sizes, seconds))
        return results.medians(_told(plan, runs, _grown), ("rows",))
    finally:
        growth.forget(settings, sizes)


def several(plan: Plan) -> list[Row]:
    """The same load with more workers."""
    settings = _topic(plan, "workers")
    events.write(settings, events.day(plan.events))
    counts = (1, 2) if plan.quick else growth.WORKERS
    runs = (run for _ in range(plan.rounds) for run in growth.several(settings, plan.folder, counts))
    return results.medians(_told(plan, runs, _several), ("workers",))


SECTIONS: Final[dict[str, Callable[[Plan], list[Row]]]] = {
    "drain": drain,
    "latency": latencies,
    "appends": appending,
    "reads": reading,
    "upkeep": keeping,
    "growth": growing,
    "workers": several,
}
NOT_QUICK: Final = ("workers",)


def _topic(plan: Plan, name: str) -> Settings:
    """A ledger topic with nothing in it, set up as `init` does; runs take their tables from `place.fresh`."""
    named = place.topic_of(plan.stack, name)
    settings = named.model_copy(update={"topic": place.another_topic(named)})
    place.drop(place.fresh(settings))
    return settings


def _told(plan: Plan, runs: Iterable[T], line: Callable[[T], str]) -> list[T]:
    done = []
    for run in runs:
        plan.say(line(run))
        done.append(run)
    return done


def _with_load(name: str, runs: Iterable[Any]) -> list[Row]:
    return [{"waiting": name, **row} for row in results.medians(runs, ("name",))]


def _contender(run: contest.Result) -> str:
    return f"{run.name}: {run.measured.events_per_s:,.0f} events/s"


def _latency(run: latency.Latency) -> str:
    what = f"at {run.rate:,}/s" if run.rate else "one at a time"
    return f"{run.name}, {what}: p50 {run.spread.p50_ms:.1f} ms, p99 {run.spread.p99_ms:.1f} ms"


def _read(run: reads.Read) -> str:
    what = f"{run.kind}, {run.open_orders:,} open, {run.clients} clients"
    return f"{what}: {run.reads_per_s:,.0f}/s, p99 {run.spread.p99_ms:.1f} ms"


def _upkeep(run: upkeep.Upkeep) -> str:
    beside = f" beside {run.live_rate}/s" if run.live_rate else ""
    return f"{run.what}{beside}: {run.events_per_s:,.0f} events/s"


def _grown(run: growth.Grown) -> str:
    return f"{run.rows:,} rows: {run.drain.events_per_s:,.0f} events/s, append p99 {run.latency.spread.p99_ms:.1f} ms"


def _several(run: growth.Several) -> str:
    return f"{run.workers} workers: {run.drain.events_per_s:,.0f} events/s"
