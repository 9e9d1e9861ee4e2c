"""An event as the value of a ledger record, checked before it is sent."""

from core_tables.schemas.events import PAYLOAD_TYPES, LedgerEvent, SizedEvent
from core_tables.schemas.reasons import ContractError, contract_failure
from core_tables.schemas.validation import first_violation
from core_tables.schemas.wire import decode_event, encode_event


def encode_checked(event: LedgerEvent) -> bytes:
    """The record value of an event that keeps the rules of the contract that need no state. Raises ContractError.

    The event is decoded again from its own bytes, since that is what the worker sees: with the schema's defaults filled in,
    and with the size of its payload.
    """
    try:
        kind = PAYLOAD_TYPES.get(event.event_type)
        if kind is not None and event.payload is not None and type(event.payload) is not kind:
            # Encoded, it would lose whatever the type's own payload has no field for.
            sentence = f"an event of type {event.event_type} needs the payload of its type"
            raise ContractError(contract_failure("payload", sentence))
        value = encode_event(event)
    except (ValueError, TypeError, OverflowError, AttributeError) as error:
        raise ContractError(contract_failure(None, f"the event does not fit its schema: {error}"[:250])) from error
    decoded = decode_event(value)
    violation = first_violation(decoded.event, decoded.payload_bytes) if isinstance(decoded, SizedEvent) else decoded
    if violation is not None:
        raise ContractError(violation)
    return value
