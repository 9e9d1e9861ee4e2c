"""The acts on the steps of a work order."""

from datetime import timedelta
from typing import Unpack

from core_tables.producer.act import ActOptions, LeaseClaim
from core_tables.producer.acts import Acts, Made
from core_tables.producer.moments import Moment, milliseconds_or_none, nanoseconds
from core_tables.schemas import events


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
        step_input_hash: str | None = None,
        lease: LeaseClaim | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[ActOptions],
    ) -> Made:
        """STEP_STARTED. Key: step and attempt, as each attempt starts once; take a new attempt_index for the next try."""
        payload = events.StepStarted(
            attempt_index, milliseconds_or_none(timeout), max_retries, milliseconds_or_none(retry_backoff)
        )
        return self._act(
            "STEP_STARTED",
            payload,
            idempotency_key,
            options,
            once=(step_id, attempt_index),
            step_id=step_id,
            step_input_hash=step_input_hash,
            lease=lease,
        )

    def finish_step(
        self,
        step_id: str,
        attempt_index: int,
        *,
        step_input_hash: str | None = None,
        lease: LeaseClaim | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[ActOptions],
    ) -> Made:
        """STEP_FINISHED. Key: step and attempt."""
        payload = events.StepFinished(attempt_index)
        return self._act(
            "STEP_FINISHED",
            payload,
            idempotency_key,
            options,
            once=(step_id, attempt_index),
            step_id=step_id,
            step_input_hash=step_input_hash,
            lease=lease,
        )

    def fail_step(
        self,
        step_id: str,
        attempt_index: int,
        *,
        failure_reason_code: int,
        step_input_hash: str | None = None,
        lease: LeaseClaim | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[ActOptions],
    ) -> Made:
        """STEP_FAILED. Key: step and attempt."""
        payload = events.StepFailed(attempt_index, failure_reason_code)
        return self._act(
            "STEP_FAILED",
            payload,
            idempotency_key,
            options,
            once=(step_id, attempt_index),
            step_id=step_id,
            step_input_hash=step_input_hash,
            lease=lease,
        )

    def schedule_retry(
        self,
        step_id: str,
        attempt_index: int,
        *,
        next_retry_at: Moment,
        idempotency_key: str,
        step_input_hash: str | None = None,
        lease: LeaseClaim | None = None,
        **options: Unpack[ActOptions],
    ) -> Made:
        """STEP_RETRY_SCHEDULED: `attempt_index` is the attempt that is due then. It needs a key, as a retry can be moved."""
        payload = events.StepRetryScheduled(attempt_index, nanoseconds(next_retry_at, "next_retry_at"))
        return self._act(
            "STEP_RETRY_SCHEDULED",
            payload,
            idempotency_key,
            options,
            step_id=step_id,
            step_input_hash=step_input_hash,
            lease=lease,
        )
