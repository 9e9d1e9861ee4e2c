"""`config`: the settings that the command would use, and where each is from."""

import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import click
import orjson
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from core_tables.cli import output
from core_tables.cli.formats import Format, emit_list
from core_tables.cli.options import format_option
from core_tables.schemas.reasons import CoreTablesError
from core_tables.settings.environment import Settings

HIDDEN: Final = "***"
_SECRET: Final = re.compile("password|secret|token|key|oauthbearer", re.IGNORECASE)
# What stands for a setting that is not set.
_USED: Final[Mapping[str, Callable[[Settings], object]]] = {
    "bootstrap_servers": Settings.kafka_servers,
    "postgres_dsn": Settings.admin,
    "worker_dsn": Settings.worker,
    "reader_dsn": Settings.reader,
    "operator_dsn": Settings.operator,
    "scheduler_dsn": Settings.scheduler,
    "redis_url": Settings.cache,
}


@click.command(epilog=output.EXIT_CODES)
@format_option
def config(form: Format) -> None:
    """Show the settings in use, and where each is from.

    A setting is from the environment, from a file, from the local stack or its default. Passwords are not shown.
    """
    settings = Settings()
    emit_list(
        "settings", [_line(settings, name) for name in Settings.model_fields], form, ("variable", "from", "value")
    )


def _line(settings: Settings, name: str) -> dict[str, object]:
    value, origin = _in_use(settings, name)
    return {
        "variable": _variable(name),
        "value": None if value is None else _without_secrets(name, value),
        "from": origin,
    }


def _in_use(settings: Settings, name: str) -> tuple[object, str]:
    if name in settings.model_fields_set:
        return getattr(settings, name), "environment"
    origin = f"{_variable(name)}_FILE" if getattr(settings, f"{name}_file", None) is not None else None
    if name not in _USED:
        return getattr(settings, name), origin or "default"
    try:
        value = _USED[name](settings.without_lanes())
    except CoreTablesError:  # any other command says what to do about it
        return None, "not set, and no local stack runs"
    if value is None:
        return "none", "default"
    if origin is None and name.endswith("_dsn") and {"postgres_dsn", "postgres_dsn_file"} & settings.model_fields_set:
        origin = _variable("postgres_dsn" if settings.postgres_dsn is not None else "postgres_dsn_file")
    return value, origin or "local stack"


def _variable(name: str) -> str:
    return f"CORE_TABLES_{name.upper()}"


def _without_secrets(name: str, value: object) -> str:
    text = str(value)
    if name.endswith("_dsn"):
        parts = conninfo_to_dict(text)
        return make_conninfo("", **{key: HIDDEN if _SECRET.search(key) else part for key, part in parts.items()})
    if name == "redis_url":
        url = urlsplit(text)
        user, has_user, place = url.netloc.rpartition("@")
        hidden = f"{user.partition(':')[0]}:{HIDDEN}@{place}" if has_user else place
        return url._replace(netloc=hidden, query="").geturl()
    if name == "kafka" and isinstance(value, Mapping):
        return orjson.dumps({key: HIDDEN if _SECRET.search(key) else part for key, part in value.items()}).decode()
    return text
