"""docs/BENCHMARKS.md from the results: a preface, the targets, a table and a plot for each section."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench import summary
from bench.results import Results, Row

PREFACE: Final = """# Benchmarks

What Core Tables costs. It is compared with what you might use instead, with the ceilings of its parts, and with the
simplest loop that does anything at all. The contenders of a table took turns (A B A B) on one machine, with the same
events, the same broker and the same Postgres with its default durability. Figures are medians of the rounds. Everything
that takes part in a run (worker, database, broker and the measuring clients) shares the cores of that machine.

`make bench` writes this file from [bench/results.json](bench/results.json). If only some sections are run again, the
others keep their earlier results, so each section states when it ran, with which command, and how busy the machine was.
Ratios carry over to other machines better than rates do: run it on yours.
"""

Cell = Callable[[Row], str]


class Table(NamedTuple):
    """How a section is shown: its title, what was done, the columns, the plot's name, and a note below."""

    section: str
    title: str
    how: str
    columns: Sequence[tuple[str, Cell]]
    plot: str | None = None
    note: str = ""


def number(name: str, digits: int = 0) -> Cell:
    """A figure of a row; a dash where it was not measured."""

    def cell(row: Row) -> str:
        value = row.get(name)
        return "–" if value is None else f"{value:,.{digits}f}"

    return cell


def text(name: str) -> Cell:
    """A field of a row as it is."""
    return lambda row: str(row[name])


def _rate(row: Row) -> str:
    return f"{row['rate']:,.0f}" if row["rate"] else "one at a time"


def _beside(row: Row) -> str:
    return f"{row['live_rate']} events/s" if row["live_rate"] else "nothing"


TABLES: Final = (
    Table(
        "drain",
        "Draining a backlog",
        "A backlog of events waits in 12 partitions (50 tenants, 20,000 work orders, 2 % of the events sent twice). The "
        "time runs from the worker's first assignment to the last event in the tables and, where there is an audit topic, "
        "to the last audit event. CPU is per event.",
        (
            ("load", text("waiting")), ("contender", text("name")), ("events/s", number("events_per_s")),
            ("worker µs", number("worker_us", 1)), ("Postgres µs", number("postgres_us", 1)),
            ("Kafka µs", number("kafka_us", 1)), ("Redis µs", number("redis_us", 1)), ("peak MB", number("peak_mb")),
            ("what it does not do", text("lacks")),
        ),
        "drain",
        "Core Tables writes the ledger, outcomes, current records, attempts and leases, updates the cache, and audits each "
        "outcome exactly once. A ceiling is one part of that work alone, on prepared input.",
    ),
    Table(
        "latency",
        "From append to known outcome",
        "Appends follow a fixed schedule that waits for nothing, so latency counts from the time an append was due. The "
        "first second is a warm-up. The bare loop consumes, inserts a batch into one table and commits; its appender learns "
        "the offset through LISTEN. Ours also reads each outcome back, by tenant.",
        (
            ("events/s", _rate), ("contender", text("name")), ("p50 ms", number("p50_ms", 1)), ("p99 ms", number("p99_ms", 1)),
            ("p99.9 ms", number("p999_ms", 1)), ("latest append ms", number("late_ms", 1)), ("appends", number("samples")),
        ),
        "latency",
        "The column *latest append* shows how far the appending process itself fell behind its schedule at worst.",
    ),
    Table(
        "appends",
        "Appending",
        "One process appends while a worker folds.",
        (("waits for", text("what")), ("events/s", number("events_per_s")), ("events", number("events"))),
    ),
    Table(
        "reads",
        "Reading",
        "Each client has its own connection and reads one thing after another. The clients are threads of at most two "
        "processes. Lists have ten records.",
        (
            ("open orders", number("open_orders")), ("read", text("kind")), ("clients", number("clients")),
            ("reads/s", number("reads_per_s")), ("p50 ms", number("p50_ms", 2)), ("p99 ms", number("p99_ms", 2)),
            ("from the cache", lambda row: f"{100 * row['from_cache']:.0f} %"), ("Postgres µs", number("postgres_us", 1)),
        ),
        "reads",
    ),
    Table(
        "lists",
        "Pending lists of any size",
        "One client reads the first ten of three requesters' lists in turn, from Postgres.",
        (
            ("open orders of the requester", number("open_orders")), ("p50 ms", number("p50_ms", 3)),
            ("p99 ms", number("p99_ms", 2)), ("reads", number("samples")),
        ),
    ),
    Table(
        "index",
        "What the index of pending lists costs",
        "The same loads, with the index that pending lists are read from, and with the one that was there before it. An event "
        "is called pending if it leaves its work order in a pending list.",
        (
            ("pending", text("pending_events")), ("index", text("indexed")), ("events/s", number("events_per_s")),
            ("worker µs", number("worker_us", 1)), ("Postgres µs", number("postgres_us", 1)),
        ),
    ),
    Table(
        "upkeep",
        "Verify and rebuild",
        "All work orders of a folded load, first on an idle system, then while a worker folds a live load.",
        (
            ("what", text("what")), ("at the same time", _beside), ("events/s", number("events_per_s")),
            ("events", number("events")), ("work orders repaired", number("repaired")),
        ),
    ),
    Table(
        "growth",
        "Growing tables",
        "The same load, into tables that already hold the given number of ledger rows of the same tenants, with their "
        "current records, attempts and leases. Then outcomes at 1,000 appends a second, and pending lists from Postgres "
        "with 16 clients.",
        (
            ("existing ledger rows", number("rows")), ("events/s", number("drain_events_per_s")),
            ("worker µs", number("drain_worker_us", 1)), ("Postgres µs", number("drain_postgres_us", 1)),
            ("append p50 ms", number("latency_p50_ms", 1)), ("append p99 ms", number("latency_p99_ms", 1)),
            ("pending p99 ms", number("pending_p99_ms", 2)), ("peak MB", number("drain_peak_mb")),
        ),
        "growth",
        "SQL inserts the existing rows, with index pages 70 % full, as random inserts leave them.",
    ),
    Table(
        "workers",
        "Several workers",
        "The same load, folded by several worker processes on one machine. The time includes their start and the rebalance "
        "of the group.",
        (
            ("workers", number("workers")), ("events/s", number("events_per_s")), ("worker µs", number("worker_us", 1)),
            ("Postgres µs", number("postgres_us", 1)), ("peak MB of a worker", number("peak_mb")),
        ),
    ),
    Table(
        "databases",
        "Two databases",
        "The same load, folded by one worker into one database, and into two on Postgres servers of their own, each with half of "
        "the lanes. The CPU of each server is per event of the whole load, and includes that of setting up its tables. All of it "
        "shares the cores of one machine, so the rate cannot rise here; what halves is the work of each server.",
        (
            ("databases", number("databases")), ("events/s", number("events_per_s")),
            ("worker µs", number("worker_us", 1)), ("first Postgres µs", number("first_us", 1)),
            ("second Postgres µs", number("second_us", 1)), ("peak MB of the worker", number("peak_mb")),
        ),
    ),
    Table(
        "neighbours",
        "Next to something large",
        "A requester with 1,000,000 open work orders, a tenant, or a work order with 100,000 events and 5,000 attempts, half of "
        "them open, gets most of the traffic. First a backlog is drained of which half is its, then one in six of 600 appends a "
        "second is an ordinary one, of the same tenant, or with a large tenant of another one in its lane. The outcomes are "
        "those of ordinary appends, and the reads are of the same work orders, from Postgres: the first ten pending, the record, "
        "the first page of its history. In the first row, the other traffic is ordinary, too. In the second, it is spread over the "
        "work orders of as many requesters as the large one has work orders; the large requester is compared with that.",
        (
            ("next to", text("large")), ("worker µs", number("drain_worker_us", 1)),
            ("Postgres µs", number("drain_postgres_us", 1)), ("outcome p50 ms", number("outcome_p50_ms", 1)),
            ("outcome p99 ms", number("outcome_p99_ms", 1)), ("pending p50 ms", number("pending_p50_ms", 2)),
            ("record p50 ms", number("current_p50_ms", 2)), ("history p50 ms", number("history_p50_ms", 2)),
        ),
    ),
    Table(
        "brokers",
        "Three brokers",
        "Three brokers on one machine, replication 3, min.insync.replicas 2. A program appends 500 events a second and awaits "
        "their outcomes, which two workers fold, while one broker after the other is killed (SIGKILL) and started again 25 "
        "seconds later; the group's coordinator is the first. At the end, everything that was acknowledged is in the tables, "
        "and they are the fold of the topic. A pause is the longest time in which no append was acknowledged, or no outcome "
        "became known. Latencies are those of the appends that were due in the phase.",
        (
            ("broker", number("node")), ("it coordinates", text("coordinates")), ("phase", text("phase")),
            ("appends/s", number("acknowledged_per_s")), ("outcomes/s", number("outcomes_per_s")),
            ("p50 ms", number("p50_ms", 1)), ("p99 ms", number("p99_ms")), ("pause of appends, s", number("append_pause_s", 1)),
            ("pause of outcomes, s", number("outcome_pause_s", 1)),
        ),
    ),
)  # fmt: skip


def write(path: Path, results: Results) -> None:
    """Write the file. It links the plots that exist."""
    parts = [PREFACE, *_reached(results), *_surroundings(results)]
    for table in TABLES:
        if table.section in results["sections"]:
            parts += _section(table, results["sections"][table.section], path.parent / "bench")
    path.write_text("\n".join(parts), "utf-8")


def _reached(results: Results) -> list[str]:
    found = summary.checks(results)
    if not found:
        return []
    rows = [
        (check.what, check.measured, check.target, "yes" if check.holds else "**no**") if check.target
        else (check.what, check.measured, "", "")
        for check in found
    ]  # fmt: skip
    return ["## Targets\n", _table(("", "measured", "target", "met"), rows)]


def _surroundings(results: Results) -> list[str]:
    found = results.get("surroundings")
    if found is None:
        return []
    machine, versions, database = found["machine"], found["versions"], found["database"]
    lines = [
        f"- machine: {machine['cpu']}, {machine['memory']}, {machine['system']}",
        f"- Core Tables: {found['build']}, where a row does not say otherwise",
        f"- versions: Python {machine['python']}, " + _listed(versions),
        "- Postgres: " + _listed(database),
        "- one Kafka broker (KRaft), one Redis, all on this machine",
    ]
    return ["## Where it ran\n", "\n".join(lines) + "\n"]


def _listed(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _section(table: Table, found: Row, plots: Path) -> list[str]:
    rows = [[cell(row) for _, cell in table.columns] for row in found["rows"]]
    runs = max(row["runs"] for row in found["rows"])
    before, after = (found["load_average"][when][0] for when in ("before", "after"))
    ran = (
        f"{found['date']}, `{found['command']}`, {runs} {'round' if runs == 1 else 'rounds'}; "
        f"load average {before:.1f} before, {after:.1f} after."
    )
    parts = [f"## {table.title}\n", f"{table.how}\n", _table([name for name, _ in table.columns], rows)]
    if table.note:
        parts.append(f"{table.note}\n")
    if table.plot is not None and (plots / f"{table.plot}.svg").exists():
        parts.append(f"![{table.title}](bench/{table.plot}.svg)\n")
    return [*parts, f"{ran}\n"]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
