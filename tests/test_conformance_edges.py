"""Conformance: limits at their edge and one past it, of the record and of payloads (contract, sections 3 and 4)."""

from typing import Any

import pytest
from msgspec.structs import replace

from core_tables.producer.encoding import encode_checked
from core_tables.schemas import events
from core_tables.schemas.events import Payload
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import CONTRACT_VALIDATION_FAILED, ContractError
from core_tables.schemas.vocabulary import EventType
from core_tables.schemas.wire import encode_event

from .book import Book
from .builders import make


def test_s3_a_value_of_20480_bytes_is_read_and_one_byte_more_is_not() -> None:
    """No event that keeps the other rules is so long; at the edge one of them refuses it, past it the size does."""
    long = make("FIELD_SET", work_order_id="w" * 19_000)
    fits = replace(long, work_order_id="w" * (19_000 + 20_480 - len(encode_event(long))))
    assert len(encode_event(fits)) == 20_480
    refusal = Book().refusal(fits)
    assert (refusal.reason_code, refusal.field) == (CONTRACT_VALIDATION_FAILED, "work_order_id")
    refusal = Book().refusal(replace(fits, work_order_id=fits.work_order_id + "w"))
    assert (refusal.reason_code, refusal.field) == (CONTRACT_VALIDATION_FAILED, None)
    assert "20481 bytes" in refusal.sentence


EDGES: list[tuple[EventType, str, Any, int, int]] = [
    ("STEP_RETRY_SCHEDULED", "next_retry_at", lambda at: events.StepRetryScheduled(0, at), 1, 2**63 - 1),
    (
        "EXTERNAL_APPROVAL_REQUESTED",
        "expires_at",
        lambda at: events.ExternalApprovalRequested("r", "b", at),
        1,
        2**63 - 1,
    ),
    ("STEP_FAILED", "failure_reason_code", lambda code: events.StepFailed(0, code), 1, 2**32 - 1),
    ("STEP_STARTED", "timeout_ms", lambda ms: events.StepStarted(0, ms), 0, 2**63 - 1),
    ("STEP_STARTED", "max_retries", lambda count: events.StepStarted(0, None, count), 0, 2**63 - 1),
    ("STEP_STARTED", "retry_backoff_ms", lambda ms: events.StepStarted(0, None, None, ms), 0, 2**63 - 1),
]


@pytest.mark.parametrize(("event_type", "field", "payload", "low", "high"), EDGES, ids=[edge[1] for edge in EDGES])
def test_s4_a_number_of_a_payload_holds_at_its_edges_and_is_refused_one_past_them(
    event_type: EventType, field: str, payload: Any, low: int, high: int
) -> None:
    def payload_of(value: int) -> Payload:
        made: Payload = payload(value)
        return made

    for edge in (low, high):
        assert Book().append(make(event_type, payload=payload_of(edge))) == Accepted()
    for past in (low - 1, high + 1):
        if past < 2**63:  # what does not fit into 64 bits cannot be written at all
            assert Book().refusal(make(event_type, payload=payload_of(past))).field == field
        with pytest.raises(ContractError):
            encode_checked(make(event_type, payload=payload_of(past)))
