"""The plots, each as PNG and SVG, with a sentence as its title."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from bench import summary
from bench.results import Results, Row

# Colours that the colour-blind can tell apart (after Okabe and Ito); ours is always the first.
BLUE, ORANGE, GREEN, PINK, GREY, PALE = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#8c8c8c", "#cccccc"
PARTS: Final = (
    ("worker", "worker_us", BLUE), ("Postgres", "postgres_us", ORANGE), ("Kafka", "kafka_us", GREEN), ("Redis", "redis_us", PINK),
)  # fmt: skip
GROWN: Final = (
    ("Drain", "drain_events_per_s", "events/s"), ("Append to outcome, p99", "latency_p99_ms", "ms"),
    ("Pending list, p99", "pending_p99_ms", "ms"),
)  # fmt: skip
ROLES: Final = {"ours": BLUE, "variant": BLUE, "peer": GREY, "ceiling": PALE}
STYLE: Final[Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "core tables",  # the same figures give the same file
}


def draw(folder: Path, results: Results) -> None:
    """Draw what the results have sections for."""
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update(STYLE)
    for name, plot in (("drain", _drain), ("latency", _latency), ("reads", _reads), ("growth", _growth)):
        if summary.rows_of(results, name):
            figure = plot(results)
            for kind in ("png", "svg"):
                metadata = {"Date": None} if kind == "svg" else {}
                figure.savefig(folder / f"{name}.{kind}", dpi=150, metadata=metadata)


def _figure(title: str, panels: int, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _drain(results: Results) -> Figure:
    """Rates, and where the CPU time of an event goes."""
    rows = summary.first_load(results)[::-1]
    figure, (rates, parts) = _figure(_drain_title(rows), 2, 1.5 + 0.36 * len(rows))
    names = [row["name"] for row in rows]
    bars = rates.barh(names, [row["events_per_s"] for row in rows], color=[ROLES[row["role"]] for row in rows])
    rates.bar_label(bars, [f" {row['events_per_s']:,.0f}" for row in rows], fontsize=8)
    rates.set(xlabel="events/s", title="Rate")
    rates.margins(x=0.25)
    left = [0.0] * len(rows)
    for part, field, colour in PARTS:
        values = [row[field] or 0.0 for row in rows]
        parts.barh(names, values, left=left, color=colour, label=part)
        left = [start + value for start, value in zip(left, values, strict=True)]
    parts.set(xlabel="µs per event", title="CPU time")
    parts.tick_params(labelleft=False)
    figure.legend(loc="outside lower right", ncols=len(PARTS), handlelength=1, columnspacing=1, fontsize=8)
    for axes in (rates, parts):
        axes.grid(visible=False, axis="y")
    return figure


def _drain_title(rows: Sequence[Row]) -> str:
    ours = next((row for row in rows if row["role"] == "ours"), None)
    ratios = [ours["events_per_s"] / row["events_per_s"] for row in rows if ours and row["role"] == "peer"]
    if not ratios:
        return "How fast a worker drains a backlog"
    times = f"{ratios[0]:.1f}" if len(ratios) == 1 else f"{min(ratios):.1f} to {max(ratios):.1f}"
    return f"Core Tables drains {times} times as fast as its peers"


def _latency(results: Results) -> Figure:
    """Percentiles by rate, next to those of the bare loop."""
    rows = summary.rows_of(results, "latency")
    rates = sorted({row["rate"] for row in rows})
    figure, panels = _figure(_latency_title(rows), len(rates), 2.8)
    for axes, rate in zip(panels, rates, strict=True):
        for place, (name, colour) in enumerate((("core tables", BLUE), ("bare loop", GREY))):
            row = summary.find(rows, name=name, rate=rate)
            if row is not None:
                values = [row["p50_ms"], row["p99_ms"], row["p999_ms"]]
                bars = axes.bar([at + 0.4 * place for at in range(3)], values, 0.38, color=colour, label=name)
                axes.bar_label(bars, [_digits(value) for value in values], fontsize=7)
        axes.set_xticks([at + 0.2 for at in range(3)], ["p50", "p99", "p99.9"])
        axes.set(title=f"{rate:,}/s" if rate else "one at a time", yscale="log", ylim=(1, _top(rows)))
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("append to outcome known, ms")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=8)
    return figure


def _latency_title(rows: Sequence[Row]) -> str:
    ours = [row["p50_ms"] for row in rows if row["name"] == "core tables"]
    return f"Half of all outcomes are known {_digits(min(ours))} to {_digits(max(ours))} ms after the append was due"


def _top(rows: Sequence[Row]) -> float:
    return 2 * max(float(row["p999_ms"]) for row in rows)


def _reads(results: Results) -> Figure:
    """Rates and p99 over the number of clients, by kind, for each size."""
    rows = summary.rows_of(results, "reads")
    sizes = sorted({int(row["open_orders"]) for row in rows})
    figure, (rates, tails) = _figure(_reads_title(rows, sizes), 2, 2.9)
    for kind, colour in (("current", BLUE), ("pending, cache", GREEN), ("pending, postgres", ORANGE)):
        for size in sizes:
            line = [row for row in rows if row["kind"] == kind and row["open_orders"] == size]
            line.sort(key=lambda row: int(row["clients"]))
            clients = [str(row["clients"]) for row in line]
            drawn = {"color": colour, "marker": "o", "ms": 4, "ls": "-" if size == sizes[-1] else ":"}
            rates.plot(clients, [row["reads_per_s"] for row in line], label=f"{kind}, {_short(size)} open", **drawn)
            tails.plot(clients, [row["p99_ms"] for row in line], **drawn)
    rates.set(title="Rate", ylabel="reads/s", xlabel="clients", ylim=(0, None))
    rates.yaxis.set_major_formatter("{x:,.0f}")
    tails.set(title="99th percentile", ylabel="ms", xlabel="clients", yscale="log")
    tails.yaxis.set_major_formatter("{x:g}")
    figure.legend(loc="outside right center", fontsize=8)
    return figure


def _reads_title(rows: Sequence[Row], sizes: Sequence[int]) -> str:
    best = max(row["reads_per_s"] for row in rows if row["open_orders"] == sizes[-1])
    return f"With {_short(sizes[-1])} open orders, clients read up to {best:,.0f} times a second"


def _growth(results: Results) -> Figure:
    """The rate of a drain, latencies and lists, by the number of existing rows."""
    rows = sorted(summary.rows_of(results, "growth"), key=lambda row: int(row["rows"]))
    existing = [_short(int(row["rows"])) for row in rows]
    cost = rows[0]["drain_events_per_s"] / rows[-1]["drain_events_per_s"]
    title = f"With {existing[-1]} existing rows, an event costs {cost:.2f} times what it costs with {existing[0]}"
    figure, panels = _figure(title, 3, 2.6)
    for axes, (what, field, unit) in zip(panels, GROWN, strict=True):
        bars = axes.bar(existing, [row[field] for row in rows], 0.6, color=BLUE)
        axes.bar_label(bars, [_digits(row[field]) for row in rows], fontsize=8)
        axes.set(title=what, ylabel=unit, xlabel="existing ledger rows")
        axes.yaxis.set_major_formatter("{x:,.0f}" if unit == "events/s" else "{x:g}")
        axes.grid(visible=False, axis="x")
    return figure


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _short(count: int) -> str:
    return f"{count // 1_000_000} M" if count >= 1_000_000 else f"{count // 1000} k"
