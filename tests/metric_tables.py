"""The tables of metrics in docs/OPERATIONS.md, and scrapes as values to compare with them."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

OPERATIONS = Path(__file__).parent.parent / "docs" / "OPERATIONS.md"


OF_THE_LEDGER = ("core_tables_ledger", "core_tables_drift", "core_tables_database", "core_tables_monitor")


class MetricRow(NamedTuple):
    """A row of a table of metrics."""

    name: str
    kind: str
    unit: str
    labels: frozenset[str]


def documented() -> dict[str, MetricRow]:
    """The rows of all tables of metrics, by name."""
    rows = re.findall(
        r"^\| `(core_tables_\w+)` \| (\w+) \| (\w*) ?\| (.*?) ?\| ", OPERATIONS.read_text("utf-8"), re.MULTILINE
    )
    found = [
        MetricRow(name, kind, unit, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, unit, labels in rows
    ]
    assert len({row.name for row in found}) == len(found)
    return {row.name: row for row in found}


def scraped(text: str) -> dict[str, MetricRow]:
    """What a scrape shows, by name, without the metrics of the process. The unit is what its name says."""
    rows = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("process_"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        rows[name] = MetricRow(name, family.type, _unit(name), frozenset(labels))
    return rows


def _unit(name: str) -> str:
    *_, last = name.removesuffix("_total").split("_")
    return last if name.endswith("_total") or last in ("seconds", "records", "offset") else ""


def samples(text: str, name: str) -> list[Sample]:
    """The samples of a metric in a scrape."""
    return [each for each in all_samples(text) if each.name == name]


def all_samples(text: str) -> Iterator[Sample]:
    """All samples of a scrape."""
    for family in text_string_to_metric_families(text):
        yield from family.samples


def scrape(collector: Collector) -> str:
    """What a collector shows now."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def of_lanes(found: Iterable[Sample]) -> dict[int, float]:
    """The values of samples that have a lane, by lane."""
    return {int(sample.labels["lane"]): sample.value for sample in found}
