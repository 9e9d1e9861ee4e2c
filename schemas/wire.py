"""The wire: Avro single-object encoding of ledger events (contract, section 3, "On the wire"; docs/WIRE.md).

value = C3 01, CRC-64-AVRO fingerprint of the writer schema in little-endian, body.
"""

import io
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

import fastavro
from msgspec.structs import asdict, replace

from core_tables.schemas import ledger_event_v1
from core_tables.schemas.avro_schema import LEDGER_SCHEMA, fingerprint_of, load_schema
from core_tables.schemas.decoder import BodyError
from core_tables.schemas.events import EMPTY_PAYLOADS, LedgerEvent, SizedEvent
from core_tables.schemas.identity import partition_of
from core_tables.schemas.reasons import TENANT_SCOPE_VIOLATION, UnknownSchemaError, Violation, contract_failure
from core_tables.schemas.text import is_blank
from core_tables.schemas.vocabulary import MAX_TENANT_ID_BYTES, MAX_VALUE_BYTES, UNATTRIBUTED

MARKER: Final = b"\xc3\x01"
HEADER_BYTES: Final = 10
_UNREGISTERED: Final = (1 << 63, None)  # above every offset


# Decodes the body that begins at a position: the event, and the size of its payload in bytes.
Decode = Callable[[bytes, int], tuple[LedgerEvent, int]]
# By marker and fingerprint: the first offset of a lane that may have it, and how to decode it (None: only a later release can).
Schemas = Mapping[bytes, tuple[int, Decode | None]]


class Unreadable(NamedTuple):
    """A record that is refused before its content counts: why, and the tenant it is attributed to."""

    violation: Violation
    tenant_id: str


_WRITER_SCHEMA: Final = load_schema(LEDGER_SCHEMA)
_PARSED: Final = fastavro.parse_schema(_WRITER_SCHEMA)
PREFIX: Final = MARKER + fingerprint_of(_WRITER_SCHEMA)
WRITER_FINGERPRINT: Final = PREFIX[len(MARKER) :].hex()
# Every schema that a record of the ledger was ever written with, the oldest first; none ever leaves this table.
DECODERS: Final[dict[bytes, Decode]] = {PREFIX: ledger_event_v1.decode}


def known_fingerprints() -> list[str]:
    """The fingerprints of the writer schemas that this release can decode, the oldest first; hexadecimal, as on the wire."""
    return [prefix[len(MARKER) :].hex() for prefix in DECODERS]


def lane_schemas(first_offsets: Mapping[str, int]) -> Schemas:
    """The writer schemas of a lane, by the offsets from which on their fingerprints are registered."""
    prefixes = {MARKER + bytes.fromhex(fingerprint): first for fingerprint, first in first_offsets.items()}
    return {prefix: (first, DECODERS.get(prefix)) for prefix, first in prefixes.items()}


# Of a lane where all that this release knows is registered from the beginning of the log.
KNOWN_SCHEMAS: Final = lane_schemas(dict.fromkeys(known_fingerprints(), 0))


def encode_event(event: LedgerEvent) -> bytes:
    """The record value of an event. Raises ValueError when a value does not fit its Avro type."""
    record = asdict(event)
    record["correlation_id"] = event.correlation_id.to_bytes(16, "big")
    if event.payload is not None:
        record["payload"] = (f"core_tables.v1.{event.event_type}", asdict(event.payload))
    buffer = io.BytesIO()
    buffer.write(PREFIX)
    fastavro.schemaless_writer(buffer, _PARSED, record)
    return buffer.getvalue()


def decode_event(value: bytes | None, offset: int = 0, schemas: Schemas = KNOWN_SCHEMAS) -> SizedEvent | Violation:
    """Decode a record's value, checking marker, schema and body, in this order.

    `offset` and `schemas` are those of its lane. Raises UnknownSchemaError if its schema is registered, and only a later
    release can decode it.
    """
    if value is None:
        return contract_failure(None, "the record has no value; a ledger event was expected")
    first_offset, decode = schemas.get(value[:HEADER_BYTES], _UNREGISTERED)
    if offset < first_offset:
        return _unregistered(value)
    if decode is None:
        raise UnknownSchemaError(
            f"the writer schema {_fingerprint(value)} is registered, but unknown to this release; deploy a worker of a "
            "release that knows it"
        )
    if len(value) > MAX_VALUE_BYTES:
        return contract_failure(
            None, f"the record's value is {len(value)} bytes long; at most {MAX_VALUE_BYTES} are allowed"
        )
    try:
        event, payload_bytes = decode(value, HEADER_BYTES)
    except BodyError as error:
        return contract_failure(None, f"the body cannot be decoded: {error}")
    if event.payload is None and event.event_type in EMPTY_PAYLOADS:
        event = replace(event, payload=EMPTY_PAYLOADS[event.event_type])
    return SizedEvent(event=event, payload_bytes=payload_bytes)


def _unregistered(value: bytes) -> Violation:
    if len(value) < HEADER_BYTES or not value.startswith(MARKER):
        return contract_failure(None, "the value does not begin with C3 01 and a fingerprint of 8 bytes")
    # No offset is named: a schema that is registered later leaves this message as it is.
    sentence = f"the writer schema {_fingerprint(value)} was not registered when the record was written"
    return contract_failure("schema", sentence)


def _fingerprint(value: bytes) -> str:
    return value[len(MARKER) : HEADER_BYTES].hex()


@lru_cache(maxsize=65536)
def is_tenant_id(text: str) -> bool:
    """Whether a text is well formed as a tenant_id: ASCII, not blank, at most 64 bytes, no U+0000, not `_unattributed`."""
    fits = text.isascii() and len(text) <= MAX_TENANT_ID_BYTES
    return fits and "\0" not in text and text != UNATTRIBUTED and not is_blank(text)


@lru_cache(maxsize=65536)
def _known_key(key: bytes, partition: int, partitions: int) -> str | None:
    """The tenant whose key this is, or None if it is no tenant's of this partition."""
    try:
        tenant_id = key.decode("ascii")
    except UnicodeDecodeError:
        return None
    return tenant_id if is_tenant_id(tenant_id) and partition_of(key, partitions) == partition else None


def read_record(
    key: bytes | None, value: bytes | None, partition: int, partitions: int, offset: int, schemas: Schemas
) -> SizedEvent | Unreadable:
    """Decode a record of the ledger topic and check that it lies where its tenant's records belong.

    The order is the contract's (section 2): marker and schema, body, key is the tenant, partition is the tenant's.
    Raises UnknownSchemaError, as `decode_event` does.
    """
    tenant_of_key = _known_key(key, partition, partitions) if key is not None else None
    decoded = decode_event(value, offset, schemas)
    if isinstance(decoded, SizedEvent):
        if tenant_of_key == decoded.event.tenant_id:
            return decoded
        violation = _misrouted(decoded.event.tenant_id, key, partition, partitions)
        if violation is None:  # rightly routed, but its tenant_id is malformed: the contract's checks say how
            return decoded
    else:
        violation = decoded
    return Unreadable(violation=violation, tenant_id=tenant_of_key or UNATTRIBUTED)


def _misrouted(tenant_id: str, key: bytes | None, partition: int, partitions: int) -> Violation | None:
    own_key = tenant_id.encode()
    if key != own_key:
        return Violation(TENANT_SCOPE_VIOLATION, "tenant_id", "the record's key is not its tenant_id")
    expected = partition_of(own_key, partitions)
    if expected == partition:
        return None
    sentence = f"the record is in partition {partition}; its tenant belongs in partition {expected}"
    return Violation(TENANT_SCOPE_VIOLATION, "tenant_id", sentence)
