"""The plain consumer: poll, decode, fold in memory, executemany, commit in Postgres, commit the offsets."""

import io
import json
import os
import sys
from typing import Any, Final

import fastavro
import psycopg
from confluent_kafka import Consumer, Message, TopicPartition
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from peers.simple_fold import (
    CURRENT_COLUMNS,
    HEADER_BYTES,
    LEDGER_COLUMNS,
    SCHEMA,
    State,
    event_id_at,
    fold,
    ledger_row,
)

BATCH: Final = 1000
POLL_S: Final = 0.1
PARSED: Final = fastavro.parse_schema(json.loads(SCHEMA.read_text("utf-8")))

Key = tuple[str, str]  # tenant_id, work_order_id


def insert(table: str, columns: tuple[str, ...]) -> sql.Composed:
    """An insert of one row."""
    return sql.SQL("insert into os_core.{} ({}) values ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(sql.Placeholder() * len(columns)),
    )


INSERT_LEDGER: Final = insert("work_order_ledger", LEDGER_COLUMNS) + sql.SQL(" on conflict do nothing")
UPSERT_CURRENT: Final = (
    insert("work_orders_current", CURRENT_COLUMNS)
    + sql.SQL(" on conflict (tenant_id, work_order_id) do update set ")
    + sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in CURRENT_COLUMNS[3:])
)
# For what is not in memory: after a start, and when a work order comes for the first time.
LOAD: Final = """
    select row.*, (
        select array_agg(idempotency_key) from os_core.work_order_ledger as event
        where event.tenant_id = row.tenant_id and event.work_order_id = row.work_order_id
    ) as seen
    from os_core.work_orders_current as row
    inner join unnest(%s::text[], %s::text[]) as asked (tenant_id, work_order_id) using (tenant_id, work_order_id)
"""


class Tables:
    """The two tables, and the state of every work order seen since the start."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn)
        self.states: dict[Key, State] = {}

    def write(self, messages: list[Message]) -> None:
        """Fold and write a batch in one transaction."""
        events = [_read(message) for message in messages]
        self._load({(event["tenant_id"], event["work_order_id"]) for _, event in events})
        rows: list[dict[str, Any]] = []
        changed: dict[Key, State] = {}
        for event_id, event in events:
            key = (event["tenant_id"], event["work_order_id"])
            state = fold(self.states.get(key), event, event_id)
            if state is not None:
                self.states[key] = changed[key] = state
                rows.append(ledger_row(event_id, event))
        with self.connection.cursor() as cursor:
            cursor.executemany(INSERT_LEDGER, [_values(row, LEDGER_COLUMNS) for row in rows])
            cursor.executemany(UPSERT_CURRENT, [_values(state, CURRENT_COLUMNS) for state in changed.values()])
        self.connection.commit()

    def _load(self, keys: set[Key]) -> None:
        missing = [key for key in keys if key not in self.states]
        if missing:
            with self.connection.cursor(row_factory=dict_row) as cursor:
                for row in cursor.execute(LOAD, [list(column) for column in zip(*missing, strict=True)]):
                    self.states[row["tenant_id"], row["work_order_id"]] = row | {"seen": row["seen"] or []}


def _read(message: Message) -> tuple[int, dict[str, Any]]:
    error = message.error()
    if error is not None:
        raise RuntimeError(error.str())
    body = io.BytesIO((message.value() or b"")[HEADER_BYTES:])
    event: Any = fastavro.schemaless_reader(body, PARSED, None)
    return event_id_at(message.partition() or 0, message.offset() or 0), event


def _values(row: dict[str, Any], columns: tuple[str, ...]) -> list[Any]:
    return [Jsonb(value) if isinstance(value := row[column], dict | list) else value for column in columns]


def main() -> None:
    """Consume until killed."""
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["CORE_TABLES_BOOTSTRAP_SERVERS"],
            "group.id": os.environ["CORE_TABLES_GROUP_ID"],
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    tables = Tables(os.environ["CORE_TABLES_POSTGRES_DSN"])

    def assigned(_consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        tables.states.clear()
        print("assigned", file=sys.stderr, flush=True)

    consumer.subscribe([os.environ["CORE_TABLES_TOPIC"]], on_assign=assigned)
    while True:
        messages = consumer.consume(BATCH, POLL_S)
        if messages:
            tables.write(messages)
            consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main()
