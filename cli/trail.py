"""`audit`: the newest events of the audit trail, from the topic, or of one work order from the tables."""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from operator import itemgetter
from typing import Any, Final, get_args

import click
from confluent_kafka import Message
from msgspec.structs import asdict, replace

from core_tables.cli import output, wiring
from core_tables.cli.formats import Format, Listing, emit_list
from core_tables.cli.options import format_option, since_option
from core_tables.cli.progress import progress_bar
from core_tables.kafka.log import TopicReader
from core_tables.projection.postgres.lanes import topic_named
from core_tables.projection.postgres.ledger_reads import DecidedRecord
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.postgres.tenant_reads import checked_parameters
from core_tables.schemas.audit import audit_event, decode_audit
from core_tables.schemas.events import AuditEvent
from core_tables.schemas.identity import partition_of
from core_tables.schemas.reasons import SetupError
from core_tables.schemas.vocabulary import UNATTRIBUTED, OutcomeKind, Severity
from core_tables.settings.environment import Settings

Wanted = Callable[[AuditEvent], bool]
_COLUMNS: Final = ("event_id", "created_at", "tenant_id", "work_order_id", "event_type", "outcome", "severity")
_WHY: Final = ("outcome_reason", "field")
_FIRST_LOOK: Final = 4  # times as many offsets as events are asked for: every transaction ends with a marker
_GROWTH: Final = 4


@click.command(epilog=output.EXIT_CODES)
@click.option("--tenant", metavar="TENANT_ID", help="Only this tenant. Default: all.")
@click.option("--work-order", metavar="WORK_ORDER_ID", help="Only this work order of the tenant; from the tables.")
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    type=click.Choice(get_args(OutcomeKind)),
    help="Only these; may be repeated.",
)
@click.option(
    "--severity",
    "severities",
    multiple=True,
    type=click.Choice(get_args(Severity)),
    help="Only these; may be repeated.",
)
@since_option
@click.option("--last", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many of the newest.")
@click.option("--follow", is_flag=True, help="Keep running, and show new events as they come until Ctrl-C.")
@format_option
def audit(
    tenant: str | None,
    work_order: str | None,
    outcomes: Sequence[str],
    severities: Sequence[str],
    since: int | None,
    last: int,
    follow: bool,
    form: Format,
) -> None:
    """Show the newest events of the audit trail, one per outcome.

    --since counts from when an event was written to the trail.

    --work-order needs a tenant. The events come from the tables then: all records with the correlation of the work order.
    --since counts from created_at, and what the tables do not keep of refused and replayed records is empty.
    """
    settings = Settings()
    tenant = tenant or (settings.tenant if work_order is not None else None)
    if work_order is not None and (tenant is None or follow):
        raise click.UsageError("--work-order needs --tenant, and cannot be used with --follow")

    def wanted(event: AuditEvent) -> bool:
        return (
            (tenant is None or event.tenant_id == tenant)
            and (not outcomes or event.outcome in outcomes)
            and (not severities or event.severity in severities)
        )

    if tenant is not None and work_order is not None:
        with closing(wiring.reads_of_tables(settings)) as reads:
            found = deque(filter(wanted, _of_work_order(reads, tenant, work_order, since or 0)), last)
        emit_list("audit trail", list(map(_shown, found)), form, (*_COLUMNS, *_WHY))
        return
    with closing(wiring.topic_reader(settings, settings.audit_topic)) as reader:
        listing = Listing("audit trail", form, (*_COLUMNS, *_WHY))
        events = _newest(reader, _audit_partitions(settings, tenant), wanted, last, since)
        listing.add(list(map(_shown, events)))
        if not events and not follow and form is Format.TABLE:
            output.out.print("audit trail: none")
        with output.until_interrupted():
            for batch in reader.follow() if follow else ():  # from where the trail ended
                listing.add([_shown(event) for _, event in _events(batch) if wanted(event)])
                output.flush()


def newest_audit(settings: Settings, tenant: str, last: int) -> list[AuditEvent]:
    """The newest committed audit events of a tenant, oldest first."""
    with closing(wiring.topic_reader(settings, settings.audit_topic)) as reader:
        partitions = _audit_partitions(settings, tenant)
        return _newest(reader, partitions, lambda event: event.tenant_id == tenant, last, None)


def _newest(
    reader: TopicReader, partitions: Sequence[int], wanted: Wanted, last: int, since: int | None
) -> list[AuditEvent]:
    """The newest events that are wanted, at most `last`, oldest first; the reader stays at the ends of the partitions.

    What lies far back is read only as far as it is needed, in parts that grow, and of a partition whose part had too few.
    """
    bounds = {partition: reader.bounds(partition) for partition in partitions}
    if since is None:
        lows = {partition: low for partition, (low, _) in bounds.items()}
        starts = {partition: max(low, high - _FIRST_LOOK * last) for partition, (low, high) in bounds.items()}
    else:
        lows = starts = reader.offsets_at(partitions, since)
    with progress_bar("audit events read", None) as advance:
        kept = _Kept(starts, wanted, last, advance)
        kept.add(reader.records(starts))
        for partition, start in starts.items():
            size, begin = _FIRST_LOOK * last, start
            while kept.lacking(partition) and begin > lows[partition]:
                size, end = _GROWTH * size, begin
                begin = max(lows[partition], end - size)
                kept.add_earlier(partition, reader.between(partition, begin, end))
    kept.add(reader.records(kept.next_offsets))
    return kept.newest()


class _Kept:
    """The newest events of each partition that are wanted, at most `last` of each, and where to read on."""

    def __init__(self, starts: Mapping[int, int], wanted: Wanted, last: int, advance: Callable[[int], None]) -> None:
        self.next_offsets = dict(starts)
        self._wanted = wanted
        self._last = last
        self._advance = advance
        self._read = 0
        self._events = {partition: deque[tuple[int, AuditEvent]](maxlen=last) for partition in starts}

    def lacking(self, partition: int) -> int:
        """How many more events of a partition could be shown."""
        return self._last - len(self._events[partition])

    def add(self, messages: Iterable[Message]) -> None:
        """Keep those of messages behind all that were read before."""
        for message, event in self._found(messages):
            partition, offset = message.partition() or 0, message.offset() or 0
            self.next_offsets[partition] = offset + 1
            if self._wanted(event):
                self._events[partition].append((_written_at(message), event))

    def add_earlier(self, partition: int, messages: Iterable[Message]) -> None:
        """Keep those of messages of a partition that lie before all that were read."""
        earlier = deque[tuple[int, AuditEvent]](maxlen=self.lacking(partition))
        for message, event in self._found(messages):
            if self._wanted(event):
                earlier.append((_written_at(message), event))
        self._events[partition].extendleft(reversed(earlier))

    def newest(self) -> list[AuditEvent]:
        """Those of a partition are in ledger order; those of several are merged by the time they were written."""
        merged = list(heapq.merge(*self._events.values(), key=itemgetter(0)))
        return [event for _, event in merged[-self._last :]]

    def _found(self, messages: Iterable[Message]) -> Iterator[tuple[Message, AuditEvent]]:
        for found in _events(messages):
            self._read += 1
            self._advance(self._read)
            yield found


def _written_at(message: Message) -> int:
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


def _events(messages: Iterable[Message]) -> Iterator[tuple[Message, AuditEvent]]:
    """Messages with the audit events in them."""
    for message in messages:
        value = message.value()
        if value is not None:
            yield message, _decoded(value, message)


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


def _of_work_order(reads: Reads, tenant_id: str, work_order_id: str, since: int) -> Iterator[AuditEvent]:
    """What the tables have of the audit events of a work order, oldest first: those that carry its correlation_id."""
    current = reads.current(tenant_id, work_order_id)
    if current is None:
        output.nothing(f"work order {work_order_id} of {tenant_id}")
    correlation_id = current.correlation_id
    for record in reads.records_of_correlation(tenant_id, correlation_id).all():
        if record.work_order_id == work_order_id and (record.created_at or 0) >= since:
            yield _from_tables(record, tenant_id, correlation_id)


def _from_tables(record: DecidedRecord, tenant_id: str, correlation_id: int) -> AuditEvent:
    event = audit_event(record.event_id, tenant_id, record.event, record.outcome, None, record.created_at or 0)
    return replace(
        event,
        work_order_id=record.work_order_id,
        correlation_id=correlation_id,
        turn_id=record.turn_id,
        event_type=record.event_type,
        idempotency_key=record.idempotency_key,
    )


def _shown(event: AuditEvent) -> dict[str, Any]:
    """An audit event as JSON, and the field at fault, if there is one, where a table finds it."""
    correlation_id = None if event.correlation_id is None else str(event.correlation_id)
    return {**asdict(event), "correlation_id": correlation_id, "field": event.payload_min.get("field")}
