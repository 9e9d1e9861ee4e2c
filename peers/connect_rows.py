"""The rows that Kafka Connect writes, prepared beforehand: decoded, folded, without replays, as JSON in two topics.

The records do not repeat the schema of their JSON: JsonConverter takes it from the connector's configuration (KIP-1054).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson
import psycopg
from msgspec.structs import asdict

from bench import folded, place
from core_tables.kafka.clients import admin_client
from core_tables.kafka.topics import create_topics
from core_tables.projection.postgres.row_types import CurrentRow, LedgerRow
from core_tables.projection.postgres.rows import current_row, ledger_row
from core_tables.schemas.identity import lane_of
from core_tables.schemas.json_form import canonical_json
from core_tables.schemas.outcomes import Accepted
from core_tables.settings.environment import Settings
from peers.expected import Expected

LEDGER: Final = "work_order_ledger"
CURRENT: Final = "work_orders_current"
TABLES: Final = (LEDGER, CURRENT)
_TYPES: Final[dict[str, dict[str, Any]]] = {
    "text": {"type": "string"},
    "bigint": {"type": "int64"},
    "integer": {"type": "int32"},
    "boolean": {"type": "boolean"},
    "jsonb": {"type": "string", "name": "io.debezium.data.Json", "version": 1},
    "numeric": {
        "type": "bytes",
        "name": "org.apache.kafka.connect.data.Decimal",
        "version": 1,
        "parameters": {"scale": "0", "connect.decimal.precision": "39"},
    },
}


def topic_of(settings: Settings, table: str) -> str:
    """The topic of a table's rows."""
    return f"{settings.topic}.{table}"


def prepare(settings: Settings, want: Expected) -> None:
    """Write the two topics, a row of each table for each accepted event. Topics that exist are left as they are."""
    names = [topic_of(settings, table) for table in TABLES]
    if create_topics(admin_client(settings.kafka_settings()), names, settings.partitions, settings.replication):
        place.fill(settings, _records(settings))
    for name in names:
        rows = sum(place.ends(settings, name).values())
        if rows != want.ledger_rows:
            raise RuntimeError(
                f"the topic {name} has {rows} rows instead of {want.ledger_rows}; delete it and try again"
            )


def columns_of(settings: Settings, table: str) -> list[tuple[str, str, bool]]:
    """The columns of a table that are written, in order: name, type, whether it may be null."""
    with psycopg.connect(settings.admin()) as connection:
        return connection.execute(
            "select column_name, data_type, is_nullable = 'YES' from information_schema.columns "
            "where table_schema = 'os_core' and table_name = %s and is_generated = 'NEVER' order by ordinal_position",
            (table,),
        ).fetchall()


def schema_of(settings: Settings, table: str) -> str:
    """The schema of a table's rows, as JsonConverter wants it."""
    fields = [
        {"field": column, "optional": nullable, **_TYPES[kind]}
        for column, kind, nullable in columns_of(settings, table)
    ]
    return orjson.dumps({"type": "struct", "optional": False, "fields": fields}).decode()


def _records(settings: Settings) -> Iterator[tuple[str, bytes, bytes, int]]:
    """The rows of each accepted event, in order, as `place.fill` takes them."""

    def record(table: str, event_id: int, row: LedgerRow | CurrentRow) -> tuple[str, bytes, bytes, int]:
        values = {name: _connect_value(value) for name, value in asdict(row).items()}
        values["correlation_id"] = int(row.correlation_id)
        return topic_of(settings, table), orjson.dumps(values), row.tenant_id.encode(), lane_of(event_id)

    for step in folded.batches(settings, 1):
        for decided in step.decided:
            if isinstance(decided.outcome, Accepted) and decided.event is not None:
                yield record(
                    LEDGER, decided.event_id, ledger_row(decided.event_id, decided.event, decided.status_before)
                )
        for _, after in step.changed.values():
            yield record(CURRENT, after.last.last_event_id, current_row(after))


def _connect_value(value: object) -> object:
    """A value as its schema has it: JSON as text."""
    return canonical_json(value).decode() if isinstance(value, Mapping | list | tuple) else value
