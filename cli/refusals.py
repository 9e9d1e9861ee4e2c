"""`refused`: which records were refused, why, and their original bytes."""

import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click
from confluent_kafka import Message
from msgspec.structs import asdict

from core_tables.cli import output, wiring
from core_tables.cli.formats import Format, emit_list, emit_more, emit_one
from core_tables.cli.options import format_option
from core_tables.kafka.shown_record import shown_record
from core_tables.projection.postgres.ledger_reads import RefusedRecord
from core_tables.projection.postgres.operator_reads import refusal_counts, refused_of_tenant
from core_tables.schemas.identity import event_id_at, lane_of, offset_of
from core_tables.schemas.reasons import SetupError
from core_tables.schemas.vocabulary import MAX_I64, UNATTRIBUTED
from core_tables.schemas.wire import Schemas, lane_schemas
from core_tables.settings.environment import Settings


@click.group(epilog=output.EXIT_CODES)
def refused() -> None:
    """Show refused records: why they were refused, and their bytes."""


@refused.command("list")
@click.option(
    "--tenant", metavar="TENANT_ID", help=f"The records of one tenant; {UNATTRIBUTED}: those that belong to none."
)
@click.option("--after", default="", metavar="TENANT_ID", help="Without --tenant: start after this tenant.")
@click.option(
    "--before",
    type=click.IntRange(min=1),
    default=MAX_I64,
    metavar="EVENT_ID",
    help="With --tenant: before this record.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="How many tenants, or records, at most.",
)
@format_option
def list_refused(tenant: str | None, after: str, before: int, limit: int, form: Format) -> None:
    """Count refused records by tenant and reason, or list one tenant's.

    Without --tenant: of the newest 1000 refused records of each tenant, how many there are for each reason. With it: the
    records, newest first.
    """
    connections = wiring.operators(Settings())
    if tenant is None:
        counts = refusal_counts(connections, after=after, page_size=limit)
        emit_list("refused records by tenant", [count._asdict() for count in counts], form)
        tenants = list(dict.fromkeys(count.tenant_id for count in counts))
        if tenants and form is Format.TABLE:
            output.out.print(f"next: core-tables refused list --tenant {shlex.quote(tenants[0])}", markup=False)
        if len(tenants) == limit:
            emit_more(f"--after {shlex.quote(tenants[-1])}", form)
        return
    records = refused_of_tenant(connections, tenant, before=before, page_size=limit)
    columns = ("event_id", "created_at", "work_order_id", "reason_code", "field", "sentence")
    emit_list(f"refused records of {tenant}", [_refused_json(record) for record in records], form, columns)
    if records and form is Format.TABLE:
        output.out.print(f"next: core-tables refused show {records[0].event_id}")
    if len(records) == limit:
        emit_more(f"--before {records[-1].event_id}", form)


@refused.command("show")
@click.argument("event_id", type=click.IntRange(min=1), required=False)
@click.option("--partition", type=click.IntRange(min=0), help="Instead of EVENT_ID: the partition of the record,")
@click.option("--offset", type=click.IntRange(min=0), help="and its offset there.")
@click.option(
    "--output",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the value to a file, all of its bytes.",
)
@format_option
def show_refused(
    event_id: int | None, partition: int | None, offset: int | None, file: Path | None, form: Format
) -> None:
    """Show a record of the ledger topic: key, headers and bytes.

    Of each, the first 64 KiB; and the record's fields, if the value can be decoded. EVENT_ID is the record's id.
    """
    if (event_id is None) != (partition is not None and offset is not None) or (partition is None) != (offset is None):
        raise click.UsageError("which record? Give either its EVENT_ID, or --partition and --offset")
    settings = Settings()
    topic = wiring.known_topic(settings)
    if event_id is None:
        event_id = event_id_at(topic.first_lane + (partition or 0), offset or 0)
    found = ledger_record(settings, event_id)
    if found is None:
        partition = lane_of(event_id) - topic.first_lane
        output.say(f"record {event_id}: nothing found at offset {offset_of(event_id)} of partition {partition}")
        sys.exit(output.EXIT_NOT_FOUND)
    message, schemas = found
    if file is not None:
        _write(file, message.value() or b"")
    emit_one(f"record {event_id}", shown_record(event_id, message, schemas), form)


def ledger_record(settings: Settings, event_id: int) -> tuple[Message, Schemas] | None:
    """A record of the ledger topic, with the schemas of its lane; None if the log has none there. Raises SetupError."""
    topic = wiring.known_topic(settings)
    lane, partition = lane_of(event_id), lane_of(event_id) - topic.first_lane
    if not 0 <= partition < topic.partitions:
        raise SetupError(
            f"record {event_id} is in lane {lane}, which is of another topic than {topic.topic}; "
            "set CORE_TABLES_TOPIC to that one",
            "topic",
        )
    with closing(wiring.topic_reader(settings, topic.topic)) as reader:
        message = reader.at(partition, offset_of(event_id))
    if message is None:
        return None
    with closing(wiring.operator(wiring.database_of(settings, lane))) as connection:
        return message, lane_schemas(wiring.positions(settings, connection)[lane].schemas)


def _refused_json(record: RefusedRecord) -> dict[str, Any]:
    named = record._asdict()
    refusal = named.pop("outcome")
    named["correlation_id"] = None if record.correlation_id is None else str(record.correlation_id)
    return {**named, **asdict(refusal)}


def _write(file: Path, value: bytes | str) -> None:
    try:
        file.write_bytes(value.encode() if isinstance(value, str) else value)
    except OSError as error:
        raise SetupError(
            f"{file} could not be written: {error.strerror}; give --output another file", "machine"
        ) from error
