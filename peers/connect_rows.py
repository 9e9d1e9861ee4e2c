"""The rows that Kafka Connect writes, prepared beforehand: decoded, folded, replays left out, as JSON in two topics.

The schema of their JSON is not in each record: JsonConverter takes it from the connector's configuration (KIP-1054).
"""

from collections.abc import Iterator
from typing import Any, Final

import orjson
import psycopg
from confluent_kafka import Producer

from bench import folded, place
from core_tables.cli import wiring
from core_tables.cli.settings import Settings
from core_tables.kafka.topics import create_topics
from core_tables.projection.postgres.rows import current_row, ledger_row
from core_tables.schemas.identity import lane_of
from core_tables.schemas.outcomes import Accepted
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
    """Have the two topics of rows, one row of each table for each accepted event. Nothing happens where they are there."""
    names = {table: topic_of(settings, table) for table in TABLES}
    if create_topics(wiring.admin_client(settings), list(names.values()), settings.partitions, settings.replication):
        columns = {table: [column for column, _, _ in columns_of(settings, table)] for table in TABLES}
        producer = Producer({"bootstrap.servers": settings.kafka_servers(), "linger.ms": 20, "compression.type": "lz4"})
        for table, partition, key, row in _rows(settings):
            value = orjson.dumps(dict(zip(columns[table], row, strict=True)))
            _produce(producer, names[table], value, key, partition)
        if producer.flush(60):
            raise RuntimeError("the broker did not acknowledge the rows; see that it runs")
    for name in names.values():
        held = sum(place.ends(settings, name).values())
        if held != want.ledger_rows:
            raise RuntimeError(
                f"the topic {name} holds {held} rows instead of {want.ledger_rows}; delete it and try again"
            )


def columns_of(settings: Settings, table: str) -> list[tuple[str, str, bool]]:
    """The columns of a table in order: name, type, whether it may be null."""
    with psycopg.connect(settings.admin()) as connection:
        return connection.execute(
            "select column_name, data_type, is_nullable = 'YES' from information_schema.columns "
            "where table_schema = 'os_core' and table_name = %s order by ordinal_position",
            (table,),
        ).fetchall()


def schema_of(settings: Settings, table: str) -> str:
    """The schema of a table's rows, as JsonConverter wants it."""
    fields = [
        {"field": column, "optional": nullable, **_TYPES[kind]}
        for column, kind, nullable in columns_of(settings, table)
    ]
    return orjson.dumps({"type": "struct", "optional": False, "fields": fields}).decode()


def _rows(settings: Settings) -> Iterator[tuple[str, int, str, tuple[Any, ...]]]:
    """Table, partition, key and row of each accepted event, in order."""
    for step in folded.batches(settings, 1):
        for decided in step.decided:
            if isinstance(decided.outcome, Accepted) and decided.event is not None:
                partition, key = lane_of(decided.event_id), decided.tenant_id
                yield LEDGER, partition, key, _with_number(ledger_row(decided.event_id, decided.event), 5)
        for _, after in step.changed.values():
            yield (
                CURRENT,
                lane_of(after.last.last_event_id),
                after.identity.tenant_id,
                _with_number(current_row(after), 2),
            )


def _with_number(row: tuple[Any, ...], at: int) -> tuple[Any, ...]:
    """A row with its correlation id as a number."""
    return (*row[:at], int(row[at]), *row[at + 1 :])


def _produce(producer: Producer, topic: str, value: bytes, key: str, partition: int) -> None:
    while True:
        try:
            producer.produce(topic, value, key, partition)
        except BufferError:
            producer.poll(0.1)
        else:
            return
