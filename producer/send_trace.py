"""The trace that an append belongs to: the header `traceparent` of its record, and a span of OpenTelemetry, if it is in use.

The names of spans and attributes are those of OpenTelemetry's messaging conventions, which may still change.
"""

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from core_tables.producer.receipt import Receipt
from core_tables.schemas.reasons import ContractError, CoreTablesError, contract_failure
from core_tables.schemas.traceparent import well_formed

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext

Headers = list[tuple[str, str | bytes | None]]
_FORM: Final = "traceparent must be version-traceid-spanid-flags in lower-case hexadecimal digits (W3C Trace Context)"


@dataclass(frozen=True)
class SendTrace:
    """The headers of a record, and the span that ends when the broker has answered, if there is one."""

    headers: Headers | None = None
    span: "Span | None" = None

    def follow(self, receipt: Receipt) -> None:
        """End the span once the broker has answered. The span of a record that was never queued is never ended or exported."""
        if self.span is not None:
            receipt.when_settled(partial(_end, self.span, receipt))


NO_TRACE: Final = SendTrace()


def trace_of(traceparent: str | None, topic: str) -> SendTrace:
    """The trace of an append to a topic: the caller's own, or else a span below the current one.

    Raises ContractError for a traceparent that has not the form of W3C Trace Context.
    """
    if traceparent is not None:
        value = well_formed(traceparent.encode(errors="replace"))
        if value is None:
            raise ContractError(contract_failure("traceparent", _FORM))
        return SendTrace([("traceparent", value)])
    # It is not imported for this: in a program that has not imported it, no span is current.
    return NO_TRACE if "opentelemetry.trace" not in sys.modules else _below_current(topic)


def _below_current(topic: str) -> SendTrace:
    from opentelemetry import trace

    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return NO_TRACE
    attributes = {
        "messaging.system": "kafka",
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": topic,
    }
    span = trace.get_tracer("core_tables").start_span(
        f"send {topic}", kind=trace.SpanKind.PRODUCER, attributes=attributes
    )
    own = span.get_span_context()
    return SendTrace([("traceparent", _header(own if own.is_valid else current))], span)


def _header(context: "SpanContext") -> bytes:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}".encode()


def _end(span: "Span", receipt: Receipt) -> None:
    from opentelemetry.trace import Status, StatusCode

    try:
        partition, offset = receipt.place(0)
    except CoreTablesError as error:
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(Status(StatusCode.ERROR, str(error)))
    else:
        span.set_attribute("messaging.destination.partition.id", str(partition))
        span.set_attribute("messaging.kafka.offset", offset)
    span.end()
