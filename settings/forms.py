"""The forms that settings have: what each checks raises ValueError, and no message quotes a value that may hold a password."""

import re
from importlib import import_module
from typing import Final, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import TypeAdapter, ValidationError

from core_tables.settings.lane_map import lane_groups

# What the client surely reads; of any other address, it is asked.
_PLAIN_REDIS_URL: Final = re.compile(r"rediss?://(:[0-9a-zA-Z]*@)?[0-9a-zA-Z.-]+(:[0-9]{1,4})?(/[0-9]+)?")


class HttpAddress(NamedTuple):
    """Where a program listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def http_address(value: str) -> HttpAddress:
    """An address as it is written in a setting. Raises ValueError."""
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 1 << 16) or (":" in host and not host.startswith("[")):
        raise ValueError("host:port was expected, such as 0.0.0.0:9464 or [::]:9464")
    return HttpAddress(host.removeprefix("[").removesuffix("]"), int(port))


def dsn_form(value: str) -> str:
    """The address of a Postgres."""
    try:
        conninfo_to_dict(value)
    except psycopg.Error:  # its message may quote the password
        raise ValueError("an address of Postgres was expected: postgresql://… or host=… dbname=…") from None
    return value


def redis_url_form(value: str) -> str:
    """`none`, or the address of a Redis."""
    if value != "none" and not _PLAIN_REDIS_URL.fullmatch(value):
        import redis  # the client takes 0.1 s

        try:
            redis.connection.parse_url(value)  # type: ignore[no-untyped-call]
        except ValueError:
            raise ValueError("none or an address of Redis was expected: redis://…, rediss://… or unix://…") from None
    return value


def importable_form(value: str) -> str:
    """The name of a function that can be imported."""
    module, _, name = value.partition(":")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"package.module:function was expected, and it cannot be imported: {error}") from None
    if not callable(function):
        raise ValueError("package.module:function was expected, and this is no function")
    return value


def kafka_form(value: str) -> dict[str, str]:
    """Settings of the Kafka client, as a JSON object."""
    try:
        return TypeAdapter(dict[str, str]).validate_json(value)
    except ValidationError:  # its message may quote a password
        raise ValueError("a JSON object of texts was expected") from None


def http_form(value: str) -> str:
    """Where a program listens."""
    http_address(value)
    return value


def lanes_form(value: str) -> str:
    """Which lanes lie in which database."""
    lane_groups(value)
    return value
