"""One span a batch, made by hand after its commit, with links to the records that are part of a sampled trace.

A span a record would cost as much as the record; so does reading every header with the SDK. The names are those of OpenTelemetry's
conventions for messaging, which may still change, and are all here.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, Tracer, set_span_in_context

from core_tables.projection.fold.values import Record
from core_tables.schemas.traceparent import sampled_ids

MAX_LINKS: Final = 128  # more are dropped by the SDK
_STEPS: Final = ("load", "write", "commit")
_NS: Final = 1_000_000_000


class BatchSpans:
    """Makes the spans of the batches of one worker."""

    def __init__(self, tracer: Tracer, topic: str, group: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is the worker's."""
        self._tracer = tracer
        self._name = f"process {topic}"
        self._clock = clock
        self._attributes = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": topic,
            "messaging.consumer.group.name": group,
        }

    def committed(self, records: Mapping[int, Sequence[Record]], marks: Sequence[float]) -> None:
        """Make the span of a batch, by partition; `marks` are the moments before, between and after its steps."""
        begun = time.time_ns() - int((self._clock() - marks[0]) * _NS)
        times = [begun + int((mark - marks[0]) * _NS) for mark in marks]
        span = self._tracer.start_span(
            self._name,
            kind=SpanKind.CONSUMER,
            links=list(_links(records.values())),
            attributes={
                **self._attributes,
                "messaging.batch.message_count": sum(map(len, records.values())),
                "core_tables.partitions": sorted(records),
            },
            start_time=times[0],
        )
        context = set_span_in_context(span)
        for step, started, ended in zip(_STEPS, times, times[1:], strict=False):
            self._tracer.start_span(step, context, start_time=started).end(ended)
        span.end(times[-1])


def _links(records: Iterable[Sequence[Record]]) -> Iterable[Link]:
    """Links to the first records that a caller samples."""
    left = MAX_LINKS
    for of_lane in records:
        for record in of_lane:
            if record.traceparent is None or (ids := sampled_ids(record.traceparent)) is None:
                continue
            trace_id, span_id = ids
            yield Link(SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)))
            left -= 1
            if left == 0:
                return
