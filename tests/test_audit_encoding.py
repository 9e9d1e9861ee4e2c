"""The audit event's encoder against the library, over whatever an outcome may hold."""

import io
from typing import Any, get_args

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict

from core_tables.schemas.audit import decode_audit, encode_audit
from core_tables.schemas.avro_schema import AUDIT_SCHEMA, load_schema
from core_tables.schemas.encoder import long
from core_tables.schemas.events import AuditEvent
from core_tables.schemas.generate import encoder_source
from core_tables.schemas.reasons import ReasonCode
from core_tables.schemas.vocabulary import EVENT_TYPES, MAX_I64, MAX_U128, STATUSES
from core_tables.schemas.wire import HEADER_BYTES

SCHEMA = load_schema(AUDIT_SCHEMA)
PARSED = fastavro.parse_schema(SCHEMA)
texts = st.text(max_size=300)
longs = st.integers(-MAX_I64 - 1, MAX_I64)
audits = st.builds(
    AuditEvent,
    event_id=longs,
    created_at=longs,
    tenant_id=texts,
    work_order_id=st.none() | texts,
    correlation_id=st.none() | st.integers(0, MAX_U128),
    turn_id=st.none() | longs,
    engine=texts,
    event_type=st.none() | st.sampled_from(EVENT_TYPES),
    reason_code=st.none() | longs,
    outcome_reason=st.none() | st.sampled_from(get_args(ReasonCode)),
    outcome=st.sampled_from(["ACCEPTED", "REPLAYED", "REFUSED"]),
    severity=st.sampled_from(["INFO", "WARN", "ERROR"]),
    idempotency_key=st.none() | texts,
    work_order_event_id=st.none() | longs,
    status_before=st.none() | st.sampled_from(STATUSES),
    status_after=st.none() | st.sampled_from(STATUSES),
    lease_owner_id=st.none() | texts,
    step_id=st.none() | texts,
    attempt_index=st.none() | longs,
    payload_min=st.dictionaries(texts, texts, max_size=24),
)


@given(audits)
def test_the_audit_encoder_writes_what_the_library_writes(event: AuditEvent) -> None:
    record: dict[str, Any] = asdict(event)
    if event.correlation_id is not None:
        record["correlation_id"] = event.correlation_id.to_bytes(16, "big")
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, PARSED, record)
    assert encode_audit(event)[HEADER_BYTES:] == buffer.getvalue()
    assert decode_audit(encode_audit(event)) == event


@pytest.mark.parametrize("value", [MAX_I64 + 1, -MAX_I64 - 2])
def test_a_number_beyond_64_bits_is_not_encoded(value: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        long(value)


def test_a_type_that_the_encoder_does_not_know_is_told_when_it_is_generated() -> None:
    with pytest.raises(NotImplementedError, match="double"):
        encoder_source({"name": "R", "fields": [{"name": "f", "type": "double"}]}, "object")
