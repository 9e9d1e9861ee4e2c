"""What was measured, as one JSON file: medians of the rounds, a section at a time, each with where and when."""

import datetime
import os
import statistics
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg
import redis

from bench import measure
from core_tables.deploy.parts import KAFKA_VERSION
from core_tables.deploy.stack import StackAddresses

Row = dict[str, Any]
Results = dict[str, Any]

_LIBRARIES: Final = ("confluent-kafka", "psycopg", "fastavro", "orjson", "redis")
_DATABASE_SETTINGS: Final = ("fsync", "synchronous_commit", "shared_buffers", "max_wal_size", "wal_compression")


def flat(value: Any) -> Row:
    """The fields of a named tuple; those of a nested one that is not the only of its kind get its name before theirs."""
    row: Row = {}
    nested = [name for name, field in value._asdict().items() if hasattr(field, "_asdict")]
    for name, field in value._asdict().items():
        if name in nested:
            prefix = "" if len(nested) == 1 else f"{name}_"
            row |= {prefix + inner: told for inner, told in flat(field).items()}
        else:
            row[name] = field
    return row


def medians(runs: Iterable[Any], keys: Sequence[str]) -> list[Row]:
    """One row for all runs of the same keys, with the median of each figure, and how many runs there were."""
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for run in runs:
        row = flat(run)
        grouped.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [_median(rows, keys) for rows in grouped.values()]


def _median(rows: list[Row], keys: Sequence[str]) -> Row:
    made: Row = {}
    for name, value in rows[0].items():
        counts = isinstance(value, int | float) and not isinstance(value, bool) and name not in keys
        made[name] = statistics.median([row[name] for row in rows]) if counts else value
    return made | {"runs": len(rows)}


def load(path: Path) -> Results:
    """What earlier runs left."""
    if not path.exists():
        return {"sections": {}}
    found: Results = orjson.loads(path.read_bytes())
    return found


def save(path: Path, results: Results) -> None:
    """Write it, readable in a diff."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".new")
    staged.write_bytes(orjson.dumps(_rounded(results), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
    os.replace(staged, path)


def _rounded(value: Any) -> Any:
    """With four digits: more are noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def section(rows: list[Row], command: str, began: tuple[float, float, float], **facts: Any) -> Row:
    """A section's rows with when, how and beside what they were measured."""
    now = datetime.datetime.now(datetime.UTC)
    load_average = {"before": list(began), "after": list(os.getloadavg())}
    return {
        "rows": rows,
        "date": f"{now:%Y-%m-%d %H:%M} UTC",
        "command": command,
        "load_average": load_average,
        **facts,
    }


def surroundings(stack: StackAddresses) -> Row:
    """The machine, the versions, and what the database was told."""
    versions = {"Kafka": KAFKA_VERSION} | {name: metadata.version(name) for name in _LIBRARIES}
    with psycopg.connect(stack.postgres_dsn) as connection:
        told = connection.execute(
            "select name, current_setting(name) from pg_settings where name = any(%s)",
            ([*_DATABASE_SETTINGS, "server_version"],),
        )
        database = {str(row[0]): str(row[1]) for row in told.fetchall()}
    versions["Postgres"] = database.pop("server_version")
    server: Any = redis.Redis.from_url(stack.redis_url).info("server")
    versions["Redis"] = server["redis_version"]
    return {"machine": measure.machine(), "versions": versions, "database": database}
