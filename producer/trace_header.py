"""The header `traceparent` of an append: the caller's own, or that of the current span of OpenTelemetry."""

import sys

from core_tables.schemas.reasons import ContractError, contract_failure
from core_tables.schemas.traceparent import well_formed


def trace_header(traceparent: str | None) -> list[tuple[str, str | bytes | None]] | None:
    """The headers of a record. Raises ContractError for a traceparent that has not the form of W3C Trace Context."""
    value = _current() if traceparent is None else well_formed(traceparent.encode(errors="replace"))
    if value is not None:
        return [("traceparent", value)]
    if traceparent is not None:
        sentence = (
            "traceparent must be version-traceid-spanid-flags in lower-case hexadecimal digits (W3C Trace Context)"
        )
        raise ContractError(contract_failure("traceparent", sentence))
    return None


def _current() -> bytes | None:
    """Of the current span, in a program that uses OpenTelemetry. It is not imported: without it there is no span either."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}".encode()
