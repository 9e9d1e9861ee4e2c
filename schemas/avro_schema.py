"""The Avro schemas of the contract (avro/*.avsc), and the fingerprints that records name them by."""

from importlib.resources import files
from typing import Any, Final

import fastavro
import orjson

AVRO: Final = files("core_tables.schemas") / "avro"
LEDGER_SCHEMA: Final = "work_order_ledger_event_input.v1"
AUDIT_SCHEMA: Final = "work_order_audit_event.v1"


def load_schema(name: str) -> dict[str, Any]:
    """The Avro schema of avro/<name>.avsc, as JSON gives it."""
    schema: dict[str, Any] = orjson.loads((AVRO / f"{name}.avsc").read_bytes())
    return schema


def fingerprint_of(schema: dict[str, Any]) -> bytes:
    """The CRC-64-AVRO fingerprint of a schema, 8 bytes, little-endian as on the wire."""
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    return bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
