"""The Quix Streams application: a stateful fold, and a PostgreSQLSink for each of the two tables.

It runs in its own environment (requirements-quix.txt). The topic's key is the tenant, so the state of a work order is stored
in its tenant's state under its id, and no other topic is needed to group by work order.
"""

import json
import os
import sys
from typing import Any, Final

from psycopg2.extensions import AsIs, parse_dsn
from quixstreams import Application, State, message_context
from quixstreams.models.serializers.avro import AvroDeserializer
from quixstreams.sinks.community.postgresql import PostgreSQLSink

from peers.simple_fold import CURRENT_COLUMNS, HEADER_BYTES, LEDGER_COLUMNS, SCHEMA, event_id_at, fold, ledger_row

# With its default of 5 s the end of the backlog would wait; over a long backlog the rate is the same with 1 s.
COMMIT_INTERVAL_S: Final = 1.0
# The sink drops a None, and takes the columns of a batch from its first row, so a column that is null there would be lost.
NULL: Final = AsIs("null")

Rows = tuple[dict[str, Any], dict[str, Any]]


class SingleObject(AvroDeserializer):  # type: ignore[misc]  # untyped where Quix is not installed
    """Quix's own decoder, after the marker and the fingerprint."""

    def __call__(self, value: bytes, ctx: Any) -> Any:
        return super().__call__(value[HEADER_BYTES:], ctx)


class Timed(Application):  # type: ignore[misc]
    """Logs when it has its partitions and has opened their stores."""

    def _on_assign(self, consumer: Any, partitions: Any) -> None:
        super()._on_assign(consumer, partitions)
        print("assigned", file=sys.stderr, flush=True)


def step(event: dict[str, Any], state: State) -> Rows | None:
    """The two rows of an event, or None for a replay."""
    context = message_context()
    event_id = event_id_at(context.partition, context.offset)
    order = event["work_order_id"]
    after = fold(state.get(order), event, event_id)
    if after is None:
        return None
    state.set(order, after)
    return ledger_row(event_id, event), after


def insertable(values: dict[str, Any], columns: tuple[str, ...]) -> dict[str, Any]:
    """A row as the sink takes it."""
    return {column: NULL if values[column] is None else values[column] for column in columns}


def sink(table: str, keys: tuple[str, ...], *, upsert: bool) -> PostgreSQLSink:
    """A sink of rows as they are, into a table that exists."""
    at = parse_dsn(os.environ["CORE_TABLES_POSTGRES_DSN"])
    return PostgreSQLSink(
        host=at["host"],
        port=int(at["port"]),
        dbname=at["dbname"],
        user=at["user"],
        password=at.get("password", ""),
        schema_name="os_core",
        table_name=table,
        schema_auto_update=False,
        include_metadata=False,
        primary_key_columns=keys if upsert else (),
        upsert_on_primary_key=upsert,
        on_conflict_do_nothing=not upsert,
    )


def main() -> None:
    """Run until killed."""
    application = Timed(
        broker_address=os.environ["CORE_TABLES_BOOTSTRAP_SERVERS"],
        consumer_group=os.environ["CORE_TABLES_GROUP_ID"],
        auto_offset_reset="earliest",
        commit_interval=COMMIT_INTERVAL_S,
        state_dir=sys.argv[1],
        loglevel="WARNING",
    )
    schema = json.loads(SCHEMA.read_text("utf-8"))
    topic = application.topic(
        os.environ["CORE_TABLES_TOPIC"], key_deserializer="str", value_deserializer=SingleObject(schema)
    )
    rows = application.dataframe(topic).apply(step, stateful=True).filter(lambda both: both is not None)
    ledger = sink("work_order_ledger", (), upsert=False)
    current = sink("work_orders_current", ("tenant_id", "work_order_id"), upsert=True)
    rows.apply(lambda both: insertable(both[0], LEDGER_COLUMNS)).sink(ledger)
    rows.apply(lambda both: insertable(both[1], CURRENT_COLUMNS)).sink(current)
    application.run()


if __name__ == "__main__":
    main()
