"""A record of the ledger topic as a person sees it: key, headers, bytes, and the event if the value can be decoded."""

from typing import Any, Final

from confluent_kafka import Message

from core_tables.kafka.clients import headers_of
from core_tables.schemas.events import SizedEvent
from core_tables.schemas.identity import offset_of
from core_tables.schemas.json_form import event_to_json
from core_tables.schemas.reasons import UnknownSchemaError
from core_tables.schemas.wire import Schemas, decode_event

SHOWN_BYTES: Final = 65_536


def shown_record(event_id: int, message: Message, schemas: Schemas) -> dict[str, Any]:
    """A record as JSON; of key, value and each header, the first 64 KiB."""
    key, value, headers = message.key(), message.value(), headers_of(message)
    record: dict[str, Any] = {
        "event_id": event_id,
        "partition": message.partition(),
        "offset": offset_of(event_id),
        "headers": None if headers is None else [_header_json(*header) for header in headers],
        "key_hex": _hex(key),
        "value_bytes": None if value is None else len(value),
        "value_hex": _hex(value),
    }
    if len(value or b"") > SHOWN_BYTES:
        record["value_cut"] = (
            f"the first {SHOWN_BYTES} bytes are shown; `core-tables refused show {event_id} --output FILE` writes all of them"
        )
    try:
        decoded = decode_event(value, offset_of(event_id), schemas)
    except UnknownSchemaError as error:
        record["unreadable"] = error.message
        return record
    if isinstance(decoded, SizedEvent):
        record["event"] = event_to_json(decoded.event)
    else:
        record["unreadable"] = decoded.sentence
    return record


def _hex(value: bytes | str | None) -> str | None:
    if value is None:
        return None
    return (value.encode() if isinstance(value, str) else value)[:SHOWN_BYTES].hex()


def _header_json(name: str, value: bytes | str | None) -> dict[str, str | None]:
    """A header; a value that is not UTF-8 text is shown in hexadecimal digits."""
    if not isinstance(value, bytes):
        return {"name": name, "value": value}
    try:
        return {"name": name, "value": value.decode()[:SHOWN_BYTES]}
    except UnicodeDecodeError:
        return {"name": name, "value_hex": _hex(value)}
