"""The JSON form of events: what a line of `append` holds, and how the tables and the command show an event.

Names are the contract's; correlation_id is a string of decimal digits (a number is read too). Null fields may be left out,
except the value of FIELD_SET, where null has a meaning.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson
from msgspec.structs import asdict

from core_tables.schemas.avro_schema import LEDGER_SCHEMA, load_schema
from core_tables.schemas.events import EMPTY_PAYLOADS, PAYLOAD_TYPES, LedgerEvent, Payload
from core_tables.schemas.reasons import ContractError, contract_failure
from core_tables.schemas.vocabulary import MAX_I64, MAX_U128, EventType

_DIGITS: Final = re.compile(r"[0-9]{1,39}", re.ASCII)
_Check = Callable[[str, Any], Any]


class _Field(NamedTuple):
    """How a field of a record is checked, whether it may be null, and whether it may be left out."""

    check: _Check
    nullable: bool
    optional: bool


def event_from_json(value: object) -> LedgerEvent:
    """The event of a JSON object.

    Raises ContractError for whatever its Avro type could not hold, and for a field unknown to the contract.
    """
    if not isinstance(value, dict):
        raise _failure(None, f"a JSON object was expected, not {_kind(value)}")
    fields: dict[str, Any] = dict(value)
    raw_payload = fields.pop("payload", None)
    checked = _record(_COMMON, fields)
    checked["payload"] = _payload(checked["event_type"], raw_payload)
    return LedgerEvent(**checked)


def event_from_line(line: bytes) -> LedgerEvent:
    """The event of one line of JSON. Raises ContractError, also for bytes that are no JSON or no UTF-8."""
    try:
        value = _DECODER.decode(line.decode())
    except UnicodeDecodeError as error:
        raise _failure(None, f"the line is not valid UTF-8 at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise _failure(None, f"the line is not valid JSON: {error}"[:250]) from None
    return event_from_json(value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Which value of a repeated key was meant cannot be known, so it is refused."""
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated, _ = Counter(name for name, _ in pairs).most_common(1).pop()
        raise _failure(repeated, "the key occurs more than once in its object; leave one of them")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def event_to_json(event: LedgerEvent) -> dict[str, Any]:
    """The JSON object of an event; correlation_id is a string of digits, null fields are left out."""
    record = {name: value for name, value in asdict(event).items() if value is not None}
    record["correlation_id"] = str(event.correlation_id)
    if event.payload is not None:
        record["payload"] = payload_to_json(event.payload)
    return record


def payload_to_json(payload: Payload) -> dict[str, Any]:
    """The JSON object of a payload; null fields are left out where they may be."""
    return {name: value for name, value in asdict(payload).items() if value is not None or name == "value"}


def payload_from_json(event_type: EventType, value: Mapping[str, Any]) -> Payload:
    """The payload that `payload_to_json` wrote; no checks, for what comes out of our own tables."""
    return PAYLOAD_TYPES[event_type](**value)


def canonical_json(value: object) -> bytes:
    """The bytes that stand for a JSON value wherever one is measured or compared: compact, keys sorted, UTF-8."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _payload(event_type: EventType, raw: object) -> Payload | None:
    if raw is None:
        return EMPTY_PAYLOADS.get(event_type)
    if not isinstance(raw, dict):
        raise _failure("payload", f"the payload must be a JSON object, not {_kind(raw)}")
    return PAYLOAD_TYPES[event_type](**_record(_PAYLOADS[event_type], raw))


def _record(checks: Mapping[str, _Field], values: Mapping[str, Any]) -> dict[str, Any]:
    for name in values:
        if name not in checks:
            raise _failure(
                str(name).encode(errors="replace").decode()[:64], "the contract has no field of this name here"
            )
    result: dict[str, Any] = {}
    for name, field in checks.items():
        value = values.get(name)
        if value is not None:
            result[name] = field.check(name, value)
        elif field.optional or (field.nullable and name in values):
            result[name] = None
        else:
            raise _failure(name, f"{name} is required" + (", null included" if field.nullable else ""))
    return result


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _failure(name, f"{name} must be a whole number, not {_kind(value)}")
    if not -MAX_I64 - 1 <= value <= MAX_I64:
        raise _failure(name, f"{name} does not fit into 64 bits")
    return value


def _u128(name: str, value: Any) -> int:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _failure(name, f"{name} must be a string of decimal digits")
    if not 0 < value <= MAX_U128:
        raise _failure(name, f"{name} must be from 1 to 2^128-1")
    return value


def _string(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _failure(name, f"{name} must be a string, not {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _failure(name, f"{name} holds a lone surrogate, which is not valid UTF-8") from None
    return value


def _scalar(name: str, value: Any) -> str | int | bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return _integer(name, value)
    if isinstance(value, str):
        return _string(name, value)
    raise _failure(name, f"{name} must be a string, a whole number or a boolean, not {_kind(value)}")


def _strings(name: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise _failure(name, f"{name} must be an array of strings, not {_kind(value)}")
    return [_string(name, item) for item in value]


def _map(name: str, value: Any) -> dict[str, str | int | bool]:
    if not isinstance(value, dict):
        raise _failure(name, f"{name} must be an object, not {_kind(value)}")
    return {_string(name, key): _scalar(name, item) for key, item in value.items()}


def _symbol(symbols: tuple[str, ...]) -> _Check:
    def check(name: str, value: Any) -> str:
        if value not in symbols:
            raise _failure(name, f"{name} must be one of {', '.join(symbols)}"[:250])
        return str(value)

    return check


def _check_of(schema: Any) -> _Check:
    """The check of an Avro type; a union of scalars is a field's value."""
    if isinstance(schema, list):
        branches = [branch for branch in schema if branch != "null"]
        return _check_of(branches[0]) if len(branches) == 1 else _scalar
    match schema if isinstance(schema, str) else schema["type"]:
        case "enum":
            return _symbol(tuple(schema["symbols"]))
        case "fixed":
            return _u128
        case "array":
            return _strings
        case "map":
            return _map
        case "string":
            return _string
        case _:
            return _integer


def _checks(schema: Mapping[str, Any]) -> dict[str, _Field]:
    return {
        field["name"]: _Field(
            check=_check_of(field["type"]),
            nullable=isinstance(field["type"], list) and "null" in field["type"],
            optional="default" in field,
        )
        for field in schema["fields"]
    }


def _failure(field: str | None, sentence: str) -> ContractError:
    return ContractError(contract_failure(field, sentence))


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number with decimals",
    }
    return names.get(type(value), "null")


_SCHEMA: Final = load_schema(LEDGER_SCHEMA)
_COMMON: Final = {name: check for name, check in _checks(_SCHEMA).items() if name != "payload"}
_PAYLOADS: Final = {
    branch["name"]: _checks(branch)
    for field in _SCHEMA["fields"]
    if field["name"] == "payload"
    for branch in field["type"]
    if branch != "null"
}
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)
