"""Where a run takes place: its own database and audit topic, on the benchmark's stack, and a ledger topic that runs share."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Final

import psycopg
from confluent_kafka import Producer
from psycopg.conninfo import make_conninfo

from bench import compiled_build
from core_tables.cli import wiring
from core_tables.cli.init import initialize
from core_tables.deploy.stack import StackAddresses
from core_tables.kafka.clients import admin_client, ledger_producer, no_log
from core_tables.schemas.reasons import UnavailableError
from core_tables.settings.environment import Settings

PARTITIONS: Final = 12
ANY: Final = -1
LED_S: Final = 60.0
_numbers = itertools.count(1)


def topic_of(stack: StackAddresses, name: str) -> Settings:
    """Settings of a ledger topic that runs share; `tables` gives each its own tables."""
    return Settings(
        bootstrap_servers=stack.bootstrap_servers,
        postgres_dsn=stack.postgres_dsn,
        redis_url=stack.redis_url,
        topic=f"{name}.ledger",
        audit_topic=f"{name}.audit",
        group_id=name,
        partitions=PARTITIONS,
    )


@contextmanager
def tables(settings: Settings, template: str = "template1") -> Iterator[Settings]:
    """The same ledger topic with its own database, audit topic and group, set up by `init` and dropped at the end."""
    made = _create(settings, template)
    try:
        yield made
    finally:
        _drop(made)


def _create(settings: Settings, template: str) -> Settings:
    """The database is a copy of the template's files, which writes nothing into the write-ahead log."""
    name = f"bench{os.getpid()}x{next(_numbers)}"
    for database in settings.databases():
        with psycopg.connect(database.admin(), autocommit=True) as connection:
            # Postgres does not copy a template while anything is connected to it, not even autovacuum.
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s", [template]
            )
            connection.execute(f'create database "{name}" template "{template}" strategy file_copy'.encode())
    made = settings.model_copy(
        update={
            "postgres_dsn": make_conninfo(settings.without_lanes().admin(), dbname=name),
            "audit_topic": f"{name}.audit",
            "group_id": name,
        }
    )
    initialize(made)
    _wait_until_led(made)
    return made


def _wait_until_led(settings: Settings) -> None:
    """Wait until the broker leads every partition of new topics. Raises UnavailableError."""
    deadline = time.monotonic() + LED_S
    while True:
        try:
            for topic in (settings.topic, settings.audit_topic):
                ends(settings, topic)
            return
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def own_topic(settings: Settings) -> Settings:
    """The same settings with a ledger topic that nothing has used yet; `tables` creates it."""
    return settings.model_copy(update={"topic": f"{settings.topic}.{os.getpid()}x{next(_numbers)}"})


def _drop(settings: Settings) -> None:
    admin = admin_client(settings.kafka_settings())
    for future in admin.delete_topics([settings.audit_topic]).values():
        future.result()
    for database in settings.databases():
        with psycopg.connect(database.admin(), autocommit=True, dbname="postgres") as connection:
            connection.execute(f'drop database "{settings.group_id}" with (force)'.encode())


def environment(settings: Settings) -> Mapping[str, str]:
    """The environment that points the command to a run."""
    return {
        **os.environ,
        "CORE_TABLES_BOOTSTRAP_SERVERS": settings.kafka_servers(),
        "CORE_TABLES_POSTGRES_DSN": settings.without_lanes().admin(),
        **({} if settings.postgres_lanes is None else {"CORE_TABLES_POSTGRES_LANES": settings.postgres_lanes}),
        "CORE_TABLES_REDIS_URL": settings.cache() or "none",
        "CORE_TABLES_TOPIC": settings.topic,
        "CORE_TABLES_AUDIT_TOPIC": settings.audit_topic,
        "CORE_TABLES_GROUP_ID": settings.group_id,
        "CORE_TABLES_PARTITIONS": str(settings.partitions),
    }


def worker(settings: Settings, *arguments: str, pure: bool = False) -> "subprocess.Popen[bytes]":
    """A worker as an operator starts it; its log lines come from its standard error.

    It runs the build that the benchmark runs, which is the compiled one if there is one; with `pure`, the plain Python.
    """
    variables = {**environment(settings), **(compiled_build.without() if pure else {})}
    return subprocess.Popen(
        [sys.executable, "-m", "core_tables.cli.main", "worker", *arguments],
        env=variables,
        stderr=subprocess.PIPE,
    )


def ends(settings: Settings, topic: str) -> dict[int, int]:
    """By partition, the end of a topic as a reader of uncommitted records sees it."""
    with ends_of(settings, topic) as look:
        return look()


@contextmanager
def ends_of(settings: Settings, topic: str) -> Iterator[Callable[[], dict[int, int]]]:
    """A function that reads a topic's ends, over one connection."""
    with closing(wiring.topic_reader(settings, topic)) as reader:
        yield lambda: {partition: reader.bounds(partition)[1] for partition in range(settings.partitions)}


def fill(settings: Settings, records: Iterable[tuple[str, bytes, bytes, int]]) -> None:
    """Write records as fast as one process can. Each is topic, value, key, and partition, or ANY for that of its key."""
    writer = producer(settings, **{"linger.ms": "20"})
    for record in records:
        while True:
            try:
                writer.produce(*record)
                break
            except BufferError:
                writer.poll(0.1)
    if writer.flush(60):
        raise RuntimeError("the broker did not acknowledge all records; check that it is running")


def producer(settings: Settings, **extra: str) -> Producer:
    """A producer that is set up as the ledger's, with other defaults if given."""
    return ledger_producer(replace(settings.kafka_settings(), extra={**settings.kafka, **extra}), no_log())
