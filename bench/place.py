"""Where a run takes place: a stack of the benchmark's own, a fresh database and audit topic for each run, one ledger topic."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import psycopg
from confluent_kafka import TopicPartition
from psycopg.conninfo import make_conninfo

from bench import compiled_build
from core_tables.cli import wiring
from core_tables.cli.settings import Settings
from core_tables.deploy.stack import StackAddresses

PARTITIONS: Final = 12
_numbers = itertools.count(1)


def topic_of(stack: StackAddresses, name: str) -> Settings:
    """Settings of a ledger topic that runs share; `fresh` gives each its own tables."""
    return Settings(
        bootstrap_servers=stack.bootstrap_servers,
        postgres_dsn=stack.postgres_dsn,
        redis_url=stack.redis_url,
        topic=f"{name}.ledger",
        audit_topic=f"{name}.audit",
        group_id=name,
        partitions=PARTITIONS,
    )


def fresh(settings: Settings, template: str = "template1") -> Settings:
    """The same ledger topic with a database, an audit topic and a group of their own, set up by `init`.

    The database is a copy of a template's files, which writes no log of them.
    """
    name = f"bench{os.getpid()}x{next(_numbers)}"
    with psycopg.connect(settings.admin(), autocommit=True) as connection:
        # A template that somebody is connected to, be it autovacuum, is not copied.
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s", [template]
        )
        connection.execute(f'create database "{name}" template "{template}" strategy file_copy'.encode())
    made = settings.model_copy(
        update={
            "postgres_dsn": make_conninfo(settings.admin(), dbname=name),
            "audit_topic": f"{name}.audit",
            "group_id": name,
        }
    )
    wiring.initialize(made)
    return made


def another_topic(settings: Settings) -> str:
    """The name of a ledger topic that nothing was written to."""
    return f"{settings.topic}.{os.getpid()}x{next(_numbers)}"


def drop(settings: Settings) -> None:
    """Take a run's database and audit topic away again."""
    name = settings.group_id
    admin = wiring.admin_client(settings)
    for future in admin.delete_topics([settings.audit_topic]).values():
        future.result()
    with psycopg.connect(settings.admin(), autocommit=True, dbname="postgres") as connection:
        connection.execute(f'drop database "{name}" with (force)'.encode())


def environment(settings: Settings) -> Mapping[str, str]:
    """The environment that points the command to a run."""
    return {
        **os.environ,
        "CORE_TABLES_BOOTSTRAP_SERVERS": settings.kafka_servers(),
        "CORE_TABLES_POSTGRES_DSN": settings.admin(),
        "CORE_TABLES_REDIS_URL": settings.cache() or "none",
        "CORE_TABLES_TOPIC": settings.topic,
        "CORE_TABLES_AUDIT_TOPIC": settings.audit_topic,
        "CORE_TABLES_GROUP_ID": settings.group_id,
        "CORE_TABLES_PARTITIONS": str(settings.partitions),
    }


def worker(settings: Settings, *arguments: str, compiled: bool = False) -> "subprocess.Popen[bytes]":
    """A worker as an operator starts it; its log lines come from its standard error."""
    variables = {**environment(settings), **(compiled_build.environment() if compiled else {})}
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
    """Looks at a topic's ends, time and again, over one connection."""
    consumer = wiring.reader_of_topics(settings)
    try:
        yield lambda: {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10, cached=False)[1]
            for partition in range(settings.partitions)
        }
    finally:
        consumer.close()
