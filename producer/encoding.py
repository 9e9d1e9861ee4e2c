"""Encoding an event as the value of a ledger record, and checking it before it is sent."""

from collections.abc import Mapping
from typing import Any, Final, get_type_hints

from msgspec import Struct, ValidationError, convert, defstruct
from msgspec.structs import asdict, replace

from core_tables.schemas.events import PAYLOAD_TYPES, LedgerEvent, SizedEvent
from core_tables.schemas.json_form import event_from_json
from core_tables.schemas.reasons import ContractError, contract_failure
from core_tables.schemas.validation import first_violation
from core_tables.schemas.wire import decode_event, encode_event


def encode_checked(event: LedgerEvent) -> bytes:
    """Encode an event, and check the rules of the contract that need no state. Raises ContractError.

    What is checked is the event decoded from these bytes, as the worker will see it: with the defaults of the schema filled
    in, and with the size of its payload.
    """
    try:
        value = encode_event(_checked_types(event))
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise ContractError(contract_failure(None, f"the event does not fit its schema: {error}"[:250])) from error
    decoded = decode_event(value)
    violation = first_violation(decoded.event, decoded.payload_bytes) if isinstance(decoded, SizedEvent) else decoded
    if violation is not None:
        raise ContractError(violation)
    return value


def _checked_types(event: LedgerEvent) -> LedgerEvent:
    """The event with lists and dicts where another sequence or mapping is given, as the encoder wants them.

    Raises ContractError for a value that is not of its field's type. Encoded, it would become another value without an error:
    2.9 would be 2, and True would be 1.
    """
    try:
        convert(event, _COMMON, from_attributes=True)
        if event.payload is None:
            return event
        kind = PAYLOAD_TYPES[event.event_type]
        if type(event.payload) is not kind:
            # Encoded, it would lose whatever the type's own payload has no field for.
            sentence = f"an event of type {event.event_type} needs the payload of its type"
            raise ContractError(contract_failure("payload", sentence))
        checked = convert(event.payload, _PAYLOADS[kind], from_attributes=True)
    except ValidationError as error:
        raise _named(event, error) from None
    given = asdict(event.payload)
    plain = {name: value for name, value in asdict(checked).items() if type(value) is not type(given[name])}
    return replace(event, payload=replace(event.payload, **plain)) if plain else event


def _named(event: LedgerEvent, error: ValidationError) -> ContractError:
    """The error that the JSON form of the event has; it names the field, and what is allowed."""
    values: dict[str, Any] = asdict(event)
    if isinstance(event.payload, Struct):
        values["payload"] = {name: _plain(value) for name, value in asdict(event.payload).items()}
    try:
        event_from_json(values)
    except ContractError as named:
        return named
    # What JSON allows and Python does not: a correlation_id of digits.
    what, _, field = str(error).partition(" - at `$.")
    return ContractError(contract_failure(field.rstrip("`") or None, what.replace("`", "")))


def _plain(value: object) -> object:
    """Any sequence or mapping as the JSON form has it."""
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _checking(kind: type[Struct]) -> type[Struct]:
    """A struct with the same fields: one of the very type is taken without a look at its values."""
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name != "payload"}
    return defstruct(kind.__name__, list(hints.items()), kw_only=True)


_COMMON: Final = _checking(LedgerEvent)
_PAYLOADS: Final = {kind: _checking(kind) for kind in PAYLOAD_TYPES.values()}
