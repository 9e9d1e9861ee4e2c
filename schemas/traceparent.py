"""The header `traceparent`, which goes along from a record to its audit event (W3C Trace Context, level 2)."""

import re
from typing import Final

# version, trace-id, parent-id, flags; version ff and ids of zeros only are invalid.
_FORM: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


_SAMPLED: Final = tuple(b"%x" % flags for flags in range(1, 16, 2))  # the last bit of the flags


def sampled_ids(header: bytes) -> tuple[int, int] | None:
    """The ids of the trace and of the span in a well-formed header, or None if the trace is not sampled."""
    if not header.endswith(_SAMPLED):
        return None
    _, trace_id, span_id, _ = header.split(b"-")
    return int(trace_id, 16), int(span_id, 16)


def well_formed(header: bytes | None) -> bytes | None:
    """The header as it came, or None where it has not the form that the W3C gives it."""
    return header if header is not None and _FORM.fullmatch(header) else None
