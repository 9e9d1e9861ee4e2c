"""Traces: one span a batch, with links to what callers sample, and nothing where they are off."""

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, NamedTuple

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from core_tables.cli.output import EXIT_OK
from core_tables.cli.tracing import tracing
from core_tables.consumer.batch_spans import MAX_LINKS, BatchSpans
from core_tables.projection.fold.values import Record
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import SetupError, contract_failure
from core_tables.schemas.traceparent import sampled_ids
from core_tables.schemas.wire import Unreadable

from .builders import make
from .world import World

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def header(flags: str = "01", span: str = SPAN) -> bytes:
    return f"00-{TRACE}-{span}-{flags}".encode()


def record(traceparent: bytes | None) -> Record:
    return Record(1, Unreadable(contract_failure(None, "planted"), "acme"), 0, traceparent)


class Spans:
    """Spans that are kept in memory."""

    def __init__(self, topic: str = "ledger") -> None:
        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.batches = BatchSpans(self._provider.get_tracer("test"), topic, "workers")

    def finished(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    yield made
    made._provider.shutdown()


@pytest.mark.parametrize(("flags", "sampled"), [("01", True), ("03", True), ("ff", True), ("00", False), ("02", False)])
def test_a_header_says_whether_its_trace_is_sampled(flags: str, sampled: bool) -> None:
    assert sampled_ids(header(flags)) == ((int(TRACE, 16), int(SPAN, 16)) if sampled else None)


def test_a_batch_is_one_span_with_its_steps_and_links_to_sampled_records(spans: Spans) -> None:
    now = spans.batches._clock()
    lanes = {3: [record(header()), record(None), record(header("00"))], 1: [record(header(span="a" * 16))]}
    spans.batches.committed(lanes, (now - 4.0, now - 3.0, now - 1.0, now - 0.5))
    found = spans.finished()
    assert found.keys() == {"process ledger", "load", "write", "commit"}
    batch = found["process ledger"]
    assert [link.context.span_id for link in batch.links] == [int(SPAN, 16), int("a" * 16, 16)]
    assert {link.context.trace_id for link in batch.links} == {int(TRACE, 16)}
    attributes: Any = batch.attributes
    assert attributes["messaging.batch.message_count"] == 4
    assert attributes["messaging.destination.name"] == "ledger"
    assert attributes["messaging.consumer.group.name"] == "workers"
    assert attributes["core_tables.partitions"] == (1, 3)
    steps = [found[name] for name in ("load", "write", "commit")]
    assert {step.parent.span_id for step in steps if step.parent is not None} == {batch.context.span_id}
    seconds = [round(((step.end_time or 0) - (step.start_time or 0)) / 1e9, 3) for step in (*steps, batch)]
    assert seconds == [1.0, 2.0, 0.5, 3.5]


def test_a_batch_has_at_most_as_many_links_as_the_sdk_keeps(spans: Spans) -> None:
    spans.batches.committed({0: [record(header())] * 100, 1: [record(header())] * 100}, (0.0, 1.0, 2.0, 3.0))
    assert len(spans.finished()["process ledger"].links) == MAX_LINKS


def test_where_traces_and_metrics_are_off_nothing_of_them_is_imported() -> None:
    ours = "core_tables.consumer.batch_spans", "core_tables.consumer.worker_metrics", "prometheus_client"
    code = f"import sys, core_tables.cli.operate; print([each for each in {ours} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_traces_without_their_packages_are_an_error_of_the_setup(monkeypatch: pytest.MonkeyPatch) -> None:
    from core_tables.settings.environment import Settings

    assert tracing(Settings(traces=False))[0] is None
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SetupError, match=r"core-tables\[otel\]"):
        tracing(Settings(traces=True))


@pytest.mark.stack
def test_a_real_batch_is_linked_to_the_callers_span_and_the_audit_carries_its_header(world: World) -> None:
    spans = Spans(world.settings.topic)
    with world.working(traced=spans.batches.committed):
        receipt = world.ledger.append(make("WORK_ORDER_CREATED"), traceparent=header().decode())
        assert receipt.outcome(60) == Accepted()
        world.drain()
    batch = spans.finished()[f"process {world.settings.topic}"]
    assert [link.context.span_id for link in batch.links] == [int(SPAN, 16)]
    (message,) = [each for messages in world.messages(world.settings.audit_topic).values() for each in messages]
    assert message.headers() == [("traceparent", header())]


class Received(NamedTuple):
    """A span that an OTLP endpoint was sent, and the service that sent it."""

    service: str
    span: Any


class Receiver(BaseHTTPRequestHandler):
    """Takes in spans as an OpenTelemetry Collector does: OTLP over HTTP, in protobuf, as the exporter packs it."""

    received: ClassVar[list[Received]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for found in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {each.key: each.value.string_value for each in found.resource.attributes}
            for scope in found.scope_spans:
                self.received.extend(Received(named["service.name"], span) for span in scope.spans)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200 if self.path == "/v1/traces" else 404)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing is written."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Received]]:
    """An OTLP endpoint, which the usual variables name to this process and to its children; what it was sent."""
    Receiver.received.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield Receiver.received
        server.shutdown()
        thread.join()


@pytest.mark.stack
def test_from_the_span_of_an_append_a_trace_store_leads_to_the_batch_that_folded_it(
    world: World, endpoint: list[Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "selene"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setenv("CORE_TABLES_TRACES", "1")
    worker = world.worker_process()
    try:
        with trace.get_tracer("the program").start_as_current_span("book a trip"):
            receipt = world.ledger.append(make("WORK_ORDER_CREATED", tenant_id="traced"))
        assert receipt.outcome(60) == Accepted()
    finally:
        worker.terminate()
        assert worker.wait(60) == EXIT_OK
    provider.shutdown()
    spans = {(service, span.name): span for service, span in endpoint}
    topic = world.settings.topic
    trip, send = spans["selene", "book a trip"], spans["selene", f"send {topic}"]
    assert (send.trace_id, send.parent_span_id) == (trip.trace_id, trip.span_id)
    batch = spans["core-tables-worker", f"process {topic}"]
    assert [(link.trace_id, link.span_id) for link in batch.links] == [(send.trace_id, send.span_id)]
    assert batch.kind == batch.SPAN_KIND_CONSUMER
    assert send.kind == send.SPAN_KIND_PRODUCER
    steps = [spans["core-tables-worker", step] for step in ("load", "write", "commit")]
    assert {(step.trace_id, step.parent_span_id) for step in steps} == {(batch.trace_id, batch.span_id)}
    assert len(endpoint) == 6, "nothing else is sent, and nothing twice"
    assert send.start_time_unix_nano < batch.end_time_unix_nano
