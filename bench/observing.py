"""What metrics and traces cost a worker for each record, without servers: `python -m bench.observing`.

Each is the processor time of this thread for what a batch does for them alone, so that the noise of the fold is not in it.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Final

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bench import events
from core_tables.consumer.batch_spans import BatchSpans
from core_tables.consumer.counts import WorkerCounts, with_others
from core_tables.projection.fold.batch import fold_in_parts, read_content
from core_tables.projection.fold.values import Decided, Loaded, Record
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Outcome
from core_tables.schemas.wire import KNOWN_SCHEMAS, encode_event

PARTITIONS: Final = 12
SIZE: Final = 2000
ROUNDS: Final = 500
_MARKS: Final = (0.0, 0.002, 0.008, 0.01)
_HEADERS: Final[dict[str, Callable[[int], bytes | None]]] = {
    "no header": lambda _: None,
    "headers, none sampled": lambda at: _header(at, "00"),
    "headers, one of ten sampled": lambda at: _header(at, "01" if at % 10 == 0 else "00"),
    "headers, all sampled": lambda at: _header(at, "01"),
}


def _header(at: int, flags: str) -> bytes:
    return f"00-{'4bf92f35' * 4}-{at + 1:016x}-{flags}".encode()


def _records(number: int, header: Callable[[int], bytes | None] = _HEADERS["no header"]) -> Iterator[Record]:
    offsets = {partition: count() for partition in range(PARTITIONS)}
    for at, event in enumerate(events.day(number)):
        tenant = event.tenant_id.encode()
        partition = partition_of(tenant, PARTITIONS)
        event_id = event_id_at(partition, next(offsets[partition]))
        content = read_content(event_id, tenant, encode_event(event), partition, PARTITIONS, KNOWN_SCHEMAS)
        yield Record(event_id, content, time.time_ns(), header(at))


def _us_a_record(work: Callable[[], None], base: Callable[[], None] = lambda: None) -> tuple[float, float]:
    """The median and the 95th percentile of what `work` takes more than `base`, by turns."""
    took = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        base()
        between = time.thread_time()
        work()
        took.append(((time.thread_time() - between) - (between - started)) / SIZE * 1e6)
    return statistics.median(took), statistics.quantiles(took, n=20)[-1]


def metrics() -> tuple[float, float]:
    """What counting a batch takes: see `Worker._fold_lanes`."""
    records = list(_records(SIZE))
    parts: list[list[Decided]] = list(fold_in_parts(records, Loaded({}, {}, {}), {}))
    counts, newest = WorkerCounts(), [records[-1].broker_time] * PARTITIONS

    def pass_on() -> None:
        for _ in iter(parts):
            pass

    def counted() -> None:
        others: list[Outcome] = []
        marks = [time.monotonic()]
        for _ in with_others(iter(parts), others):
            pass
        marks += [time.monotonic() for _ in _MARKS[1:]]
        counts.took(marks)
        counts.decided(SIZE, others, newest)
        counts.looked_up(SIZE, in_memory=SIZE)

    return _us_a_record(counted, pass_on)


def traces(header: Callable[[int], bytes | None]) -> tuple[float, float]:
    """What the spans of a batch take."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    spans = BatchSpans(provider.get_tracer("bench"), "ledger", "workers")
    records = list(_records(SIZE, header))
    return _us_a_record(lambda: spans.committed({0: records}, _MARKS))


if __name__ == "__main__":
    rows = {"metrics": metrics(), **{f"traces, {name}": traces(header) for name, header in _HEADERS.items()}}
    for name, (median, high) in rows.items():
        print(f"{name}: {median:.3f} us a record (median of {ROUNDS} batches of {SIZE}), 95 % at most {high:.3f}")
