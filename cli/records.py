"""Records of the topics: the audit trail, and refused records with their original bytes."""

import heapq
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click
from confluent_kafka import Message
from msgspec.structs import asdict

from core_tables.cli import output, wiring
from core_tables.cli.options import json_option
from core_tables.kafka.clients import headers_of
from core_tables.kafka.log import TopicReader
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.fetch import fetch
from core_tables.projection.postgres.lanes import topic_named
from core_tables.projection.postgres.ledger_reads import RefusedRecord, refused_record
from core_tables.projection.postgres.row_types import OutcomeRow
from core_tables.projection.postgres.tenant_reads import checked_parameters
from core_tables.schemas.audit import decode_audit
from core_tables.schemas.events import AuditEvent, SizedEvent
from core_tables.schemas.identity import lane_of, offset_of, partition_of
from core_tables.schemas.json_form import event_to_json
from core_tables.schemas.reasons import SetupError, UnknownSchemaError
from core_tables.schemas.vocabulary import MAX_I64, UNATTRIBUTED
from core_tables.schemas.wire import Schemas, decode_event, lane_schemas
from core_tables.settings.environment import Settings

SHOWN_BYTES: Final = 65_536


@click.command(epilog=output.EXIT_CODES)
@click.option("--tenant", metavar="TENANT_ID", help="Show one tenant only.")
@click.option("--last", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many of the newest.")
@click.option("--follow", is_flag=True, help="Keep running, and show new events as they come until Ctrl-C.")
@json_option
def audit(tenant: str | None, last: int, follow: bool, as_json: bool) -> None:
    """Show the newest events of the audit trail, one per outcome."""
    settings = Settings()
    with closing(wiring.topic_reader(settings, settings.audit_topic)) as reader:
        _show_audit(_trail(reader, settings, tenant, last)[-last:], as_json)
        for batch in reader.follow() if follow else ():  # from where the trail ended
            _show_audit([event for _, event in _events(batch, tenant)], as_json=True)


def audit_trail(settings: Settings, tenant: str | None) -> list[AuditEvent]:
    """The committed audit events of a tenant, or of all tenants, oldest first."""
    with closing(wiring.topic_reader(settings, settings.audit_topic)) as reader:
        return _trail(reader, settings, tenant, None)


def _trail(reader: TopicReader, settings: Settings, tenant: str | None, last: int | None) -> list[AuditEvent]:
    """The events up to the current ends of the partitions, at least the `last` newest; the reader stays at those ends.

    Events of one partition are in ledger order; those of several partitions are merged by the time they were written.
    """
    starts = {}
    for partition in _audit_partitions(settings, tenant):
        low, high = reader.bounds(partition)
        # Every transaction ends with a marker that takes an offset too, so more than `last` are read.
        starts[partition] = low if tenant is not None or last is None else max(low, high - 4 * last)
    by_partition: dict[int, list[tuple[Message, AuditEvent]]] = {partition: [] for partition in starts}
    for message, event in _events(reader.records(starts), tenant):
        by_partition[message.partition() or 0].append((message, event))
    merged = heapq.merge(*by_partition.values(), key=_written_at)
    return [event for _, event in merged]


def _written_at(found: tuple[Message, AuditEvent]) -> int:
    message, _ = found
    _, milliseconds = message.timestamp()
    return milliseconds


def _audit_partitions(settings: Settings, tenant: str | None) -> list[int]:
    """The audit partitions that can hold a tenant's events."""
    if tenant is not None:
        checked_parameters(tenant)
    with closing(wiring.reads_of_tables(settings)) as reads:
        partitions = topic_named(reads.topics(), settings.topic).partitions
    if tenant is not None and tenant != UNATTRIBUTED:
        return [partition_of(tenant.encode(), partitions)]
    return list(range(partitions))


def _events(messages: Iterable[Message], tenant: str | None) -> Iterator[tuple[Message, AuditEvent]]:
    """Messages with the audit events in them, those of the tenant only."""
    for message in messages:
        value = message.value()
        if value is not None:
            event = _decoded(value, message)
            if tenant is None or event.tenant_id == tenant:
                yield message, event


def _decoded(value: bytes, message: Message) -> AuditEvent:
    try:
        return decode_audit(value)
    except Exception:  # the decoder has many errors, and they may quote what they cannot decode
        raise SetupError(
            f"the record at offset {message.offset()} of partition {message.partition()} of the audit topic is not an audit event "
            "that this release can read; if a newer release wrote it, install that release, otherwise find out who writes to the "
            "audit topic",
            "topic",
        ) from None


def _show_audit(events: list[AuditEvent], as_json: bool) -> None:
    if as_json:
        for event in events:
            output.emit_json(
                {
                    **asdict(event),
                    "correlation_id": None if event.correlation_id is None else str(event.correlation_id),
                }
            )
        output.flush()
        return
    columns = ("event_id", "tenant_id", "work_order_id", "event_type", "outcome", "severity", "outcome_reason", "field")
    rows = [
        (
            e.event_id,
            e.tenant_id,
            e.work_order_id,
            e.event_type,
            e.outcome,
            e.severity,
            e.outcome_reason,
            e.payload_min.get("field"),
        )
        for e in events
    ]
    output.emit_rows("audit trail", columns, rows)


@click.group(epilog=output.EXIT_CODES)
def refused() -> None:
    """Show refused records: why they were refused, and their bytes."""


@refused.command("list")
@click.option(
    "--tenant",
    default=UNATTRIBUTED,
    metavar="TENANT_ID",
    show_default=True,
    help="Whose records; by default, those that could not be attributed to a tenant.",
)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many of the newest.")
@json_option
def list_refused(tenant: str, limit: int, as_json: bool) -> None:
    """List the refused records of a tenant, newest first."""
    checked_parameters(tenant)
    connection = wiring.operator(Settings())
    with translated(), connection.transaction():
        records = [refused_record(row) for row in fetch(connection, OutcomeRow, "read_refused", tenant, MAX_I64, limit)]
    if as_json:
        for record in records:
            output.emit_json(_refused_json(record))
        return
    rows = [(r.event_id, r.work_order_id, r.outcome.reason_code, r.outcome.field, r.outcome.sentence) for r in records]
    output.emit_rows(
        f"refused records of {tenant}", ("event_id", "work_order_id", "reason_code", "field", "sentence"), rows
    )
    if records:
        output.out.print(f"for the bytes of one: core-tables refused show {records[0].event_id}")


@refused.command("show")
@click.argument("event_id", type=click.IntRange(min=1))
@click.option(
    "--output",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the value to a file, all of its bytes.",
)
@json_option
def show_refused(event_id: int, file: Path | None, as_json: bool) -> None:
    """Show a record of the ledger topic: key, headers and bytes.

    Of each, the first 64 KiB; and the record's fields, if the value can be decoded.
    """
    settings = Settings()
    connection = wiring.operator(settings)
    topic = wiring.registered_topic(settings, connection)
    partition = lane_of(event_id) - topic.first_lane
    if not 0 <= partition < topic.partitions:
        raise SetupError(
            f"record {event_id} is in lane {lane_of(event_id)}, which is of another topic than {topic.topic}; "
            "set CORE_TABLES_TOPIC to that one",
            "topic",
        )
    with closing(wiring.topic_reader(settings, topic.topic)) as reader:
        message = reader.at(partition, offset_of(event_id))
    if message is None:
        output.err.print(f"record {event_id}: nothing found at offset {offset_of(event_id)} of partition {partition}")
        sys.exit(output.EXIT_NOT_FOUND)
    schemas = lane_schemas(wiring.positions(settings, connection)[lane_of(event_id)].schemas)
    if file is not None:
        _write(file, message.value() or b"")
    record = _record_json(event_id, partition, message, schemas)
    if as_json:
        output.emit_json(record)
    else:
        output.emit_record(f"record {event_id}", record)


def _refused_json(record: RefusedRecord) -> dict[str, Any]:
    named = record._asdict()
    refusal = named.pop("outcome")
    named["correlation_id"] = None if record.correlation_id is None else str(record.correlation_id)
    return {**named, **asdict(refusal)}


def _hex(value: bytes | str | None) -> str | None:
    if value is None:
        return None
    return (value.encode() if isinstance(value, str) else value)[:SHOWN_BYTES].hex()


def _write(file: Path, value: bytes | str) -> None:
    try:
        file.write_bytes(value.encode() if isinstance(value, str) else value)
    except OSError as error:
        raise SetupError(
            f"{file} could not be written: {error.strerror}; give --output another file", "machine"
        ) from error


def _header_json(name: str, value: bytes | str | None) -> dict[str, str | None]:
    """A header; a value that is not UTF-8 text is shown in hexadecimal digits."""
    if not isinstance(value, bytes):
        return {"name": name, "value": value}
    try:
        return {"name": name, "value": value.decode()[:SHOWN_BYTES]}
    except UnicodeDecodeError:
        return {"name": name, "value_hex": _hex(value)}


def _record_json(event_id: int, partition: int, message: Message, schemas: Schemas) -> dict[str, Any]:
    key, value, headers = message.key(), message.value(), headers_of(message)
    record: dict[str, Any] = {
        "event_id": event_id,
        "partition": partition,
        "offset": offset_of(event_id),
        "headers": None if headers is None else [_header_json(*header) for header in headers],
        "key_hex": _hex(key),
        "value_bytes": None if value is None else len(value),
        "value_hex": _hex(value),
    }
    if len(value or b"") > SHOWN_BYTES:
        record["value_cut"] = f"the first {SHOWN_BYTES} bytes are shown; --output FILE writes all of them"
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
