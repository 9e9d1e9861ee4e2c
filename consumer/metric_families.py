"""Metrics as Prometheus reads them, made of plain values, and the page that shows them."""

from collections.abc import Callable, Mapping
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from core_tables.consumer.counts import Durations
from core_tables.consumer.http_server import HttpPage

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


def gauge(name: str, text: str, samples: Mapping[Any, float], *labels: str) -> GaugeMetricFamily:
    """A gauge with its samples, by the value of its label, or of its labels."""
    family = GaugeMetricFamily(f"core_tables_{name}", text, labels=labels)
    for values, value in samples.items():
        family.add_metric(_values(values), value)
    return family


def counter(name: str, text: str, samples: Mapping[Any, float], *labels: str) -> CounterMetricFamily:
    """A counter with its samples, by the value of its label, or of its labels."""
    family = CounterMetricFamily(f"core_tables_{name}", text, labels=labels)
    for values, value in dict(samples).items():
        family.add_metric(_values(values), value)
    return family


def _values(values: Any) -> tuple[str, ...]:
    return values if isinstance(values, tuple) else (values,)


def histogram(name: str, text: str, samples: Mapping[Any, Durations], *labels: str) -> HistogramMetricFamily:
    """A histogram with its samples, by the value of its label."""
    family = HistogramMetricFamily(f"core_tables_{name}", text, labels=labels)
    for values, durations in samples.items():
        bounds = [*(str(bound) for bound in durations.bounds), "+Inf"]
        buckets = list(zip(bounds, durations.cumulated(), strict=True))
        family.add_metric(_values(values), [(bound, float(count)) for bound, count in buckets], durations.sum)
    return family


def metrics_page(*collectors: Collector) -> Callable[[], HttpPage]:
    """The page of the metrics of collectors, and of the process."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    ProcessCollector(registry=registry)

    def page() -> HttpPage:
        return HttpPage(200, prometheus_client.CONTENT_TYPE_PLAIN_0_0_4, prometheus_client.generate_latest(registry))

    return page
