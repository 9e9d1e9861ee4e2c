"""The acts on the steps of a work order."""

from datetime import timedelta
from typing import Unpack

from core_tables.producer.act import StepOptions
from core_tables.producer.acts import Acts, Made
from core_tables.producer.moments import Moment, milliseconds_or_none, nanoseconds
from core_tables.schemas import events
from core_tables.schemas.vocabulary import EventType

_OfAttempt = events.StepStarted | events.StepFinished | events.StepFailed | events.StepRetryScheduled


class StepActs(Acts[Made]):
    """An attempt of a step starts, ends, or is due later."""

    def start_step(
        self,
        step_id: str,
        attempt_index: int,
        *,
        timeout: timedelta | None = None,
        max_retries: int | None = None,
        retry_backoff: timedelta | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[StepOptions],
    ) -> Made:
        """STEP_STARTED. Key: step and attempt, as each attempt starts once; take a new attempt_index for the next try."""
        payload = events.StepStarted(
            attempt_index, milliseconds_or_none(timeout), max_retries, milliseconds_or_none(retry_backoff)
        )
        return self._step("STEP_STARTED", step_id, payload, idempotency_key, options)

    def finish_step(
        self,
        step_id: str,
        attempt_index: int,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[StepOptions],
    ) -> Made:
        """STEP_FINISHED. Key: step and attempt."""
        return self._step("STEP_FINISHED", step_id, events.StepFinished(attempt_index), idempotency_key, options)

    def fail_step(
        self,
        step_id: str,
        attempt_index: int,
        *,
        failure_reason_code: int,
        idempotency_key: str | None = None,
        **options: Unpack[StepOptions],
    ) -> Made:
        """STEP_FAILED. Key: step and attempt."""
        payload = events.StepFailed(attempt_index, failure_reason_code)
        return self._step("STEP_FAILED", step_id, payload, idempotency_key, options)

    def schedule_retry(
        self,
        step_id: str,
        attempt_index: int,
        *,
        next_retry_at: Moment,
        idempotency_key: str,
        **options: Unpack[StepOptions],
    ) -> Made:
        """STEP_RETRY_SCHEDULED: `attempt_index` is the attempt that is due then. It needs a key, as a retry can be moved."""
        payload = events.StepRetryScheduled(attempt_index, nanoseconds(next_retry_at, "next_retry_at"))
        return self._step("STEP_RETRY_SCHEDULED", step_id, payload, idempotency_key, options)

    def _step(
        self, event_type: EventType, step_id: str, payload: _OfAttempt, key: str | None, options: StepOptions
    ) -> Made:
        return self._act(
            event_type,
            payload,
            key,
            options,
            once=(step_id, payload.attempt_index),
            step_id=step_id,
            step_input_hash=options.get("step_input_hash"),
            lease=options.get("lease"),
        )
