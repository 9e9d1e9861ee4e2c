"""The spans of appends, in a program that uses OpenTelemetry."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from core_tables import ContractError, Ledger, LedgerSettings, UnavailableError
from core_tables.kafka.clients import header

from .builders import make
from .world import World, wait_until

pytestmark = pytest.mark.stack

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Has the spans that ended. The provider is that of this test alone: a process can set it only once."""
    made = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return made


@pytest.fixture
def program(exporter: InMemorySpanExporter) -> Tracer:
    """The tracer of the program that appends."""
    assert exporter.get_finished_spans() == ()
    return trace.get_tracer("the program")


def sends(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name.startswith("send ")]


def test_an_append_below_a_current_span_has_a_span_of_its_own_whose_context_is_in_the_header(
    world: World, program: Tracer, exporter: InMemorySpanExporter
) -> None:
    topic = world.settings.topic
    with program.start_as_current_span("book a trip") as parent:
        receipts = [world.ledger.append(make("FIELD_SET", tenant_id="spans")) for _ in range(2)]
        world.ledger.append(make("FIELD_SET", tenant_id="spans"), traceparent=TRACE).place()
        with pytest.raises(ContractError):
            world.ledger.append(make("FIELD_SET", tenant_id=""))
    outside = world.ledger.append(make("FIELD_SET", tenant_id="spans"))
    places = [receipt.place() for receipt in (*receipts, outside)]
    found = sends(exporter)
    assert [(span.name, span.kind) for span in found] == 2 * [(f"send {topic}", SpanKind.PRODUCER)]
    records = {message.offset(): message for message in world.messages(topic)[places[0][0]]}
    headers = [header(records[offset].headers(), "traceparent") for _, offset in places]
    for span, sent, (partition, offset) in zip(found, headers, places, strict=False):
        assert span.parent is not None
        assert span.parent.span_id == parent.get_span_context().span_id
        own = span.context
        assert sent == f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}".encode()
        assert span.attributes == {
            "messaging.system": "kafka",
            "messaging.operation.type": "send",
            "messaging.operation.name": "send",
            "messaging.destination.name": topic,
            "messaging.destination.partition.id": str(partition),
            "messaging.kafka.offset": offset,
        }
    assert headers[-1] is None


def test_the_span_of_an_append_that_is_not_known_to_be_written_says_so(
    program: Tracer, exporter: InMemorySpanExporter
) -> None:
    nowhere = LedgerSettings("127.0.0.1:1", kafka={"message.timeout.ms": "300"})
    with Ledger.connect(nowhere) as ledger:
        with program.start_as_current_span("book a trip"):
            receipt = ledger.append(make("FIELD_SET"))
        with pytest.raises(UnavailableError):
            receipt.place()
        (span,) = wait_until(lambda: sends(exporter), "the span to end")
    assert span.status.status_code == StatusCode.ERROR
    assert span.attributes["error.type"] == "UnavailableError"
