"""The fields of a work order and what was asked about them, event after event (contract, section 4). Pure."""

from collections.abc import Collection, Mapping
from typing import TypeVar, assert_never

from msgspec.structs import replace

from core_tables.projection.fold.work_order import Asked, Collected
from core_tables.schemas.events import (
    ExternalApprovalRequested,
    ExternalApprovalResolved,
    FieldAsked,
    FieldConflictResolved,
    FieldSet,
    FieldValue,
    LeaseAcquired,
    LeaseReleased,
    LeaseRenewed,
    LedgerEvent,
    StatusChanged,
    StepFailed,
    StepFinished,
    StepRetryScheduled,
    StepStarted,
    WorkOrderCanceled,
    WorkOrderCreated,
)

V = TypeVar("V")


def collect(collected: Collected, event: LedgerEvent) -> Collected:
    """The fields and prompts of a work order after an event."""
    fields, keys = collected.fields, collected.prompt_dedupe_keys
    match payload := event.payload:
        case FieldSet():
            return _set_field(collected, payload)
        case FieldAsked():
            key, before = payload.prompt_dedupe_key, collected.asked_fields.get(payload.field_key)
            asked: Asked = {"asked_at": event.created_at, "attempts": before["attempts"] + 1 if before else 1}
            return replace(
                collected,
                asked_fields={**collected.asked_fields, payload.field_key: asked},
                prompt_dedupe_keys=keys if key in keys else (*keys, key),
            )
        case WorkOrderCreated():
            fields = {**fields, **(payload.fields or {})}
            missing_fields = _missing((*collected.missing_fields, *(payload.missing_fields or ())), fields)
            return replace(collected, fields=fields, missing_fields=missing_fields)
        case StatusChanged():
            if not payload.missing_fields:
                return collected
            return replace(
                collected, missing_fields=_missing((*collected.missing_fields, *payload.missing_fields), fields)
            )
        case FieldConflictResolved():
            return replace(
                collected,
                fields={**fields, payload.field_key: payload.value},
                missing_fields=_without(collected.missing_fields, (payload.field_key,)),
                resolved_fields={**collected.resolved_fields, payload.field_key: payload.value},
            )
        case (
            None
            | StepStarted()
            | StepFinished()
            | StepFailed()
            | StepRetryScheduled()
            | LeaseAcquired()
            | LeaseRenewed()
            | LeaseReleased()
            | ExternalApprovalRequested()
            | ExternalApprovalResolved()
            | WorkOrderCanceled()
        ):
            return collected
        case _:
            assert_never(payload)


def _set_field(collected: Collected, payload: FieldSet) -> Collected:
    """A field is known, or with None no longer; a correction frees its prompt."""
    key, value, invalidated = payload.field_key, payload.value, payload.invalidated_prompt_dedupe_keys
    keys, asked_fields, resolved_fields = (
        collected.prompt_dedupe_keys,
        collected.asked_fields,
        collected.resolved_fields,
    )
    if invalidated:
        keys = _without(keys, frozenset(invalidated))
        asked_fields = _without_key(asked_fields, key)
    if value is not None:
        fields: Mapping[str, FieldValue] = {**collected.fields, key: value}
        missing_fields = _without(collected.missing_fields, (key,))
    else:
        fields = _without_key(collected.fields, key)
        resolved_fields = _without_key(resolved_fields, key)
        missing_fields = _missing((*collected.missing_fields, key), fields)
    return Collected(
        fields=fields,
        missing_fields=missing_fields,
        asked_fields=asked_fields,
        resolved_fields=resolved_fields,
        prompt_dedupe_keys=keys,
    )


def _missing(names: tuple[str, ...], fields: Mapping[str, FieldValue]) -> tuple[str, ...]:
    """The names of fields that are not known, each once, in their order."""
    return tuple(name for name in dict.fromkeys(names) if name not in fields)


def _without(items: tuple[str, ...], dropped: Collection[str]) -> tuple[str, ...]:
    return tuple(item for item in items if item not in dropped) if items else items


def _without_key(items: Mapping[str, V], dropped: str) -> Mapping[str, V]:
    return {key: value for key, value in items.items() if key != dropped} if dropped in items else items
