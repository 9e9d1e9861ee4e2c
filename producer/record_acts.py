"""The acts on the record of a work order: created, fields, status, canceled."""

from collections.abc import Mapping, Sequence
from typing import Unpack

from core_tables.producer.act import ActOptions, CommonOptions
from core_tables.producer.acts import Acts, Made
from core_tables.schemas import events
from core_tables.schemas.events import FieldValue
from core_tables.schemas.vocabulary import ConfirmationState, WorkOrderStatus


class RecordActs(Acts[Made]):
    """What is said about the work order as a whole, and about its fields."""

    def create(
        self,
        *,
        requester_user_id: str,
        correlation_id: int | None = None,
        status: WorkOrderStatus = "DRAFT",
        requester_speaker_id: str | None = None,
        device_id: str | None = None,
        session_id: str | None = None,
        process_id: str | None = None,
        blueprint_version: str | None = None,
        intent_type: str | None = None,
        fields: Mapping[str, FieldValue] | None = None,
        missing_fields: Sequence[str] | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[CommonOptions],
    ) -> Made:
        """WORK_ORDER_CREATED. Key: the event type, as a work order is created once.

        `correlation_id` is the caller's thread; give it here, or where the work order is opened. Without a `turn_id` it is
        turn 1.
        """
        payload = events.WorkOrderCreated(
            requester_user_id=requester_user_id,
            requester_speaker_id=requester_speaker_id,
            device_id=device_id,
            session_id=session_id,
            process_id=process_id,
            blueprint_version=blueprint_version,
            intent_type=intent_type,
            fields=fields,
            missing_fields=missing_fields,
        )
        return self._act(
            "WORK_ORDER_CREATED",
            payload,
            idempotency_key,
            {**options, "status": status},
            correlation_id=correlation_id,
        )

    def set_field(
        self,
        field_key: str,
        value: FieldValue | None,
        *,
        idempotency_key: str,
        invalidated_prompt_dedupe_keys: Sequence[str] | None = None,
        **options: Unpack[ActOptions],
    ) -> Made:
        """FIELD_SET; None as the value: the field is no longer known. A correction names the prompts that it invalidates."""
        payload = events.FieldSet(field_key, value, invalidated_prompt_dedupe_keys)
        return self._act("FIELD_SET", payload, idempotency_key, options)

    def resolve_field_conflict(
        self, field_key: str, value: FieldValue, *, idempotency_key: str, **options: Unpack[ActOptions]
    ) -> Made:
        """FIELD_CONFLICT_RESOLVED: this value won."""
        payload = events.FieldConflictResolved(field_key, value)
        return self._act("FIELD_CONFLICT_RESOLVED", payload, idempotency_key, options)

    def ask(
        self,
        field_key: str,
        *,
        prompt_dedupe_key: str,
        idempotency_key: str | None = None,
        **options: Unpack[ActOptions],
    ) -> Made:
        """FIELD_ASKED. Key: the prompt dedupe key itself, so that of two who ask at once one is accepted.

        Where a correction allowed a fresh prompt under the same prompt dedupe key, give a key of your own.
        """
        payload = events.FieldAsked(field_key, prompt_dedupe_key)
        key = prompt_dedupe_key if idempotency_key is None else idempotency_key
        return self._act("FIELD_ASKED", payload, key, options)

    def change_status(
        self,
        status: WorkOrderStatus,
        *,
        idempotency_key: str,
        confirmation_state: ConfirmationState | None = None,
        missing_fields: Sequence[str] | None = None,
        **options: Unpack[CommonOptions],
    ) -> Made:
        """STATUS_CHANGED, and perhaps what became of the confirmation and which fields are missing now."""
        return self._act(
            "STATUS_CHANGED",
            events.StatusChanged(confirmation_state, missing_fields),
            idempotency_key,
            {**options, "status": status},
        )

    def cancel(self, *, idempotency_key: str, **options: Unpack[CommonOptions]) -> Made:
        """WORK_ORDER_CANCELED. It needs a key, as a work order that was opened again can be canceled again."""
        return self._act(
            "WORK_ORDER_CANCELED", events.WorkOrderCanceled(), idempotency_key, {**options, "status": "CANCELED"}
        )
