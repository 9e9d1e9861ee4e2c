"""What was measured, as one JSON file: for each section the medians of its rounds, when, and how."""

import datetime
import os
import statistics
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import psycopg
import redis

from bench import compiled_build, measure
from core_tables.deploy.parts import KAFKA_VERSION
from core_tables.deploy.stack import StackAddresses

Row = dict[str, Any]
Results = dict[str, Any]

_LIBRARIES: Final = ("confluent-kafka", "psycopg", "fastavro", "orjson", "redis")
_DATABASE_SETTINGS: Final = ("fsync", "synchronous_commit", "shared_buffers", "max_wal_size", "wal_compression")


def flat(run: NamedTuple) -> Row:
    """The fields of a named tuple and of those in it. With several in it, their fields have its name as a prefix."""
    fields: Row = run._asdict()
    nested = [name for name, field in fields.items() if hasattr(field, "_asdict")]
    row = {name: field for name, field in fields.items() if name not in nested}
    for name in nested:
        prefix = f"{name}_" if len(nested) > 1 else ""
        row |= {prefix + inner: field for inner, field in flat(fields[name]).items()}
    return row


def medians(runs: Iterable[NamedTuple], keys: Sequence[str]) -> list[Row]:
    """A row for each combination of keys: the median of each figure, and how many runs there were."""
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
    """The results of earlier runs; empty, if there are none."""
    if not path.exists():
        return {"sections": {}}
    found: Results = orjson.loads(path.read_bytes())
    return found


def save(path: Path, results: Results) -> None:
    """Write results, so that a diff of them can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".new")
    staged.write_bytes(orjson.dumps(_rounded(results), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
    os.replace(staged, path)


def _rounded(value: Any) -> Any:
    """Numbers with four digits; more would be noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def section(rows: list[Row], command: str, began: tuple[float, float, float], *, quick: bool) -> Row:
    """A section's rows, with when and how they were measured and how busy the machine was."""
    now = datetime.datetime.now(datetime.UTC)
    load_average = {"before": list(began), "after": list(os.getloadavg())}
    return {
        "rows": rows,
        "date": f"{now:%Y-%m-%d %H:%M} UTC",
        "command": command,
        "load_average": load_average,
        "quick": quick,
    }


def surroundings(stack: StackAddresses) -> Row:
    """The machine, the versions, and the settings of the database."""
    versions = {"Kafka": KAFKA_VERSION} | {name: metadata.version(name) for name in _LIBRARIES}
    with psycopg.connect(stack.postgres_dsn) as connection:
        rows = connection.execute(
            "select name, current_setting(name) from pg_settings where name = any(%s)",
            ([*_DATABASE_SETTINGS, "server_version"],),
        )
        database: dict[str, str] = dict(rows.fetchall())
    versions["Postgres"] = database.pop("server_version")
    server: Any = redis.Redis.from_url(stack.redis_url).info("server")
    versions["Redis"] = server["redis_version"]
    build = "compiled" if compiled_build.runs() else "pure Python"
    return {"machine": measure.machine(), "build": build, "versions": versions, "database": database}
