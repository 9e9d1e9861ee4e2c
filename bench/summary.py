"""The main ratios, with a target for each, met or not."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from bench.results import Results, Row

# By a word of a peer's name: how many times its rate ours should be at least.
_PEERS: Final = {"quix": 3.0, "plain": 1.5}


class Check(NamedTuple):
    """A figure, its target in words, and whether it meets it."""

    what: str
    value: float
    unit: str
    target: str  # empty, if there is none
    holds: bool

    @property
    def measured(self) -> str:
        """The figure with its unit."""
        digits = 0 if self.value >= 100 else 1 if self.value >= 10 else 2
        return f"{self.value:,.{digits}f} {self.unit}"


def checks(results: Results) -> list[Check]:
    """The figures of all sections that were run."""
    return [
        check for part in (_drain, _latency, _reads, _lists, _upkeep, _growth, _neighbours) for check in part(results)
    ]


def rows_of(results: Results, section: str) -> list[Row]:
    """The rows of a section; none if it was not run."""
    found: list[Row] = results["sections"].get(section, {}).get("rows", [])
    return found


def first_load(results: Results) -> list[Row]:
    """The rows of the load that every contender drained."""
    rows = rows_of(results, "drain")
    return [row for row in rows if row["waiting"] == rows[0]["waiting"]]


def find(rows: list[Row], **fields: Any) -> Row | None:
    """The first row with these fields."""
    return next((row for row in rows if all(row[name] == value for name, value in fields.items())), None)


def _at_least(what: str, value: float, unit: str, least: float) -> Check:
    return Check(what, value, unit, f"at least {least:g} {unit}", value >= least)


def _at_most(what: str, value: float, unit: str, most: float) -> Check:
    return Check(what, value, unit, f"at most {most:g} {unit}", value <= most)


def _drain(results: Results) -> Iterator[Check]:
    rows = first_load(results)
    for ours in [row for row in rows if row["role"] in ("ours", "variant")]:
        for row in rows:
            name, ratio = row["name"], ours["events_per_s"] / row["events_per_s"]
            what = f"{ours['name']}: drain rate compared with {name}"
            least = next((times for word, times in _PEERS.items() if word in name.lower()), None)
            if row["role"] == "peer" and least is not None:
                yield _at_least(what, ratio, "x", least)
            elif row["role"] == "peer":
                yield Check(what, ratio, "x", "", True)
            elif "copy" in name.lower():
                yield _at_most(f"{ours['name']}: wall time compared with {name}", 1 / ratio, "x", 1.5)
        yield _at_most(f"{ours['name']}: worker CPU per event", ours["worker_us"], "µs", 25)
    if rows:
        yield _at_most("worker memory at most", max(row["peak_mb"] for row in _ours(results)), "MB", 250)


def _ours(results: Results) -> list[Row]:
    return [row for row in rows_of(results, "drain") if row["role"] in ("ours", "variant")]


def _latency(results: Results) -> Iterator[Check]:
    rows = rows_of(results, "latency")
    alone = find(rows, name="core tables", rate=0)
    ours, bare = find(rows, name="core tables", rate=1000), find(rows, name="bare loop", rate=1000)
    if alone is not None:
        yield _at_most("append to outcome, one at a time, p50", alone["p50_ms"], "ms", 10)
    if ours is not None and bare is not None:
        ratio = ours["p99_ms"] / bare["p99_ms"]
        yield _at_most("append to outcome at 1,000/s, p99 compared with the bare loop", ratio, "x", 1.3)


def _reads(results: Results) -> Iterator[Check]:
    rows = rows_of(results, "reads")
    for clients in (16, 64):
        cached = find(rows, kind="pending, cache", clients=clients)
        tables = find(rows, kind="pending, postgres", clients=clients)
        if cached is not None and tables is not None:
            what = f"lists from the cache compared with Postgres, {clients} clients"
            yield _at_least(f"{what}: lists/s", cached["reads_per_s"] / tables["reads_per_s"], "x", 2)
            yield _at_most(f"{what}: p99", cached["p99_ms"] / tables["p99_ms"], "x", 1)


def _lists(results: Results) -> Iterator[Check]:
    rows = sorted(rows_of(results, "lists"), key=lambda row: int(row["open_orders"]))
    if len(rows) > 1:
        (smallest, *_, largest) = rows
        what = f"first ten of {largest['open_orders']:,} pending, compared with {smallest['open_orders']:,}: p50"
        yield _at_most(what, largest["p50_ms"] / smallest["p50_ms"], "x", 2)
    rows = rows_of(results, "index")
    for row in rows:
        former = find(rows, pending_events=row["pending_events"], indexed="former")
        if former is not None and former is not row:
            lost = row["events_per_s"] / former["events_per_s"]
            what = (
                f"drain with the index of lists, {row['pending_events']} events pending, compared with the former index"
            )
            yield _at_least(what, lost, "x", 0.95)


def _upkeep(results: Results) -> Iterator[Check]:
    rows = rows_of(results, "upkeep")
    rebuild = find(rows, what="rebuild, all tables lost", live_rate=0)
    verify = find(rows, what="verify", live_rate=0)
    ours = _ours(results)
    if rebuild is not None and ours:
        ratio = rebuild["events_per_s"] / ours[0]["events_per_s"]
        yield _at_least("rebuild of lost tables compared with the live drain", ratio, "x", 1.5)
    if rebuild is not None and verify is not None:
        yield _at_least("verify compared with rebuild", verify["events_per_s"] / rebuild["events_per_s"], "x", 1.0)


def _growth(results: Results) -> Iterator[Check]:
    rows = sorted(rows_of(results, "growth"), key=lambda row: int(row["rows"]))
    if len(rows) > 1:
        ratio = rows[0]["drain_events_per_s"] / rows[-1]["drain_events_per_s"]
        what = f"cost per event with {rows[-1]['rows']:,} existing rows, compared with {rows[0]['rows']:,}"
        yield _at_most(what, ratio, "x", 1.15)


def _neighbours(results: Results) -> Iterator[Check]:
    rows = rows_of(results, "neighbours")
    for row in rows:
        # Each event for another one of a million work orders costs more than what is usual, whosever they are.
        usual = find(rows, large="as many requesters" if row["large"] == "a requester" else "nothing large")
        if usual is not None and row["large"] in {"a requester", "a tenant", "a work order"}:
            worst = max(row[f"{read}_p50_ms"] / usual[f"{read}_p50_ms"] for read in ("pending", "current", "history"))
            costs = [each["drain_worker_us"] + each["drain_postgres_us"] for each in (row, usual)]
            what = f"next to {row['large']} a thousand times larger"
            for part in ("p50", "p99"):
                ratio = row[f"outcome_{part}_ms"] / usual[f"outcome_{part}_ms"]
                yield _at_most(f"{what}: append to outcome, {part}", ratio, "x", 1.5)
            yield _at_most(f"{what}: CPU per event", costs[0] / costs[1], "x", 1.5)
            yield _at_most(f"{what}: slowest of three reads, p50", worst, "x", 1.5)
