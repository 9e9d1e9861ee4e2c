"""Ceilings: what one part of the worker's work costs alone, on input that was prepared beforehand."""

import gc
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from confluent_kafka import KafkaError, Producer, TopicPartition
from msgspec.structs import asdict
from psycopg.types.json import Jsonb

from bench import folded, place
from bench.measure import Measured, StackCpu
from core_tables.consumer.audit_emitter import PER_TRANSACTION
from core_tables.consumer.audit_encoding import audit_of
from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.kafka.clients import REQUEST_TIMEOUT_S, audit_producer, ledger_consumer
from core_tables.projection.fold.values import Folded
from core_tables.projection.postgres.connection import Connection, connect
from core_tables.projection.postgres.fetch import run
from core_tables.projection.postgres.row_types import CurrentRow
from core_tables.projection.postgres.rows import current_row, ledger_row
from core_tables.schemas.audit import encode_audit
from core_tables.schemas.identity import lane_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.wire import KNOWN_SCHEMAS, read_record
from core_tables.settings.environment import Settings

POLL_S: Final = 0.1

# A batch's ledger rows, from which the server writes its binary form; the number column keeps their order.
_STAGE: Final = """
    create temp table stage as
        select row.*, 0 as number from os_core.work_order_ledger as row with no data
"""
_INTO_STAGE: Final = "copy stage from stdin"
_FROM_STAGE: Final = """
    copy (
        select
            tenant_id, work_order_event_id, schema_version, created_at, work_order_id, correlation_id, turn_id, event_type,
            status_before, work_order_status, reason_code, expected_last_event_id, step_id, step_input_hash, lease_owner_id,
            lease_token_hash, lease_expires_at, idempotency_key, payload
        from stage
        order by number
    ) to stdout (format binary)
"""
_COPY: Final = "copy os_core.work_order_ledger from stdin (format binary)"


class _Batch(NamedTuple):
    """The rows of a batch: the ledger's as binary COPY data, and the current ones."""

    ledger: bytes
    current: list[CurrentRow]


def copy(settings: Settings, folder: Path) -> Measured:
    """COPY BINARY of the ledger rows and the current-row upserts, a transaction a batch, into the tables of a fresh run."""
    with closing(connect(settings.admin(), name="core-tables ceiling")) as connection:
        events, accepted, batches = _prepare(settings, connection)

        def write() -> None:
            for batch in batches:
                with connection.transaction():
                    with connection.cursor().copy(_COPY) as into:
                        into.write(batch.ledger)
                    run(connection, "upsert_current", batch.current)

        timed = _timed(folder, events, write)
        found = connection.execute("select count(*) from os_core.work_order_ledger").fetchone()
        if found != (accepted,):
            raise RuntimeError(f"{found} ledger rows instead of {accepted}")
        return timed


def consume(settings: Settings, folder: Path) -> Measured:
    """Consume and decode the ledger topic, as the worker does, and nothing else."""
    ends = {partition: end for partition, end in place.ends(settings, settings.topic).items() if end}
    events = sum(ends.values())
    client = replace(settings.kafka_settings(), group_id=f"{settings.group_id}.ceiling")
    with closing(ledger_consumer(client, fetch_ahead=WorkerSettings.batch_size)) as consumer:
        consumer.assign([TopicPartition(settings.topic, partition, 0) for partition in ends])

        def read() -> None:
            seen = 0
            while seen < events:
                for message in consumer.consume(folded.BATCH, POLL_S):
                    partition, error = message.partition(), message.error()
                    if error is not None and error.code() == KafkaError._PARTITION_EOF:
                        continue
                    if error is not None or partition is None:
                        raise RuntimeError(f"the ledger topic could not be read: {error}")
                    key, value, offset = message.key(), message.value(), message.offset() or 0
                    read_record(key, value, partition, settings.partitions, offset, KNOWN_SCHEMAS)
                    seen += 1

        return _timed(folder, events, read)


def audit(settings: Settings, folder: Path) -> Measured:
    """The audit events, encoded beforehand, into the audit topic of a fresh run: a producer a lane, 2000 a transaction."""
    lanes = _audit_values(settings)
    client = settings.kafka_settings()
    producers = {lane: audit_producer(client, f"{settings.audit_topic}.{lane}") for lane in lanes}
    for producer in producers.values():
        producer.init_transactions(REQUEST_TIMEOUT_S)

    def emit() -> None:
        for start in range(0, max(map(len, lanes.values())), PER_TRANSACTION):
            # As the worker: every lane's transaction is filled before the first is committed.
            begun = [
                _begin(producers[lane], settings.audit_topic, lane, values[start : start + PER_TRANSACTION])
                for lane, values in lanes.items()
                if start < len(values)
            ]
            for producer in begun:
                producer.commit_transaction(REQUEST_TIMEOUT_S)

    return _timed(folder, sum(map(len, lanes.values())), emit)


def _begin(producer: Producer, topic: str, lane: int, values: list[tuple[bytes, bytes]]) -> Producer:
    producer.begin_transaction()
    for key, value in values:
        producer.produce(topic, value, key, partition=lane)
    return producer


def _audit_values(settings: Settings) -> dict[int, list[tuple[bytes, bytes]]]:
    """By lane, the keys and values of the audit events."""
    lanes: dict[int, list[tuple[bytes, bytes]]] = {}
    for step in folded.batches(settings):
        for item in step.decided:
            event = audit_of(item)
            lanes.setdefault(lane_of(item.event_id), []).append((item.tenant_id.encode(), encode_audit(event)))
    return lanes


def _prepare(settings: Settings, connection: Connection) -> tuple[int, int, list[_Batch]]:
    """How many records there are, how many of them are accepted, and their rows in batches."""
    count = accepted = 0
    batches: list[_Batch] = []
    connection.execute(_STAGE)
    for step in folded.batches(settings):
        count += len(step.decided)
        accepted += sum(isinstance(decided.outcome, Accepted) for decided in step.decided)
        rows = [current_row(after) for _, after in step.changed.values()]
        batches.append(_Batch(_binary(connection, step), rows))
    connection.commit()
    return count, accepted, batches


def _binary(connection: Connection, step: Folded) -> bytes:
    """The ledger rows of a batch, in the binary form that the server itself writes."""
    connection.execute("truncate stage")
    with connection.cursor().copy(_INTO_STAGE) as into:
        for number, decided in enumerate(step.decided):
            if isinstance(decided.outcome, Accepted) and decided.event is not None:
                row = asdict(ledger_row(decided.event_id, decided.event, decided.status_before))
                into.write_row((*(row | {"payload": Jsonb(row["payload"])}).values(), number))
    with connection.cursor().copy(_FROM_STAGE) as out:
        return b"".join(bytes(block) for block in out)


def _timed(folder: Path, events: int, work: Callable[[], None]) -> Measured:
    """Do the work, with the garbage collector off what was prepared for it; the CPU is that of this process."""
    cpu, worker = StackCpu(folder), [os.getpid()]
    gc.collect()
    gc.freeze()
    try:
        before, started = cpu.read(worker), time.monotonic()
        work()
        seconds = time.monotonic() - started
        return Measured.of(events, seconds, cpu.read(worker).since(before))
    finally:
        gc.unfreeze()
