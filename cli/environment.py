"""The settings of the command, read from the environment once, as one frozen object."""

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final

import psycopg
import redis
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from core_tables.kafka.clients import KafkaSettings
from core_tables.producer.ledger import LedgerSettings
from core_tables.schemas.reasons import SetupError
from core_tables.schemas.vocabulary import AUDIT_TOPIC, LEDGER_TOPIC, PARTITIONS


def _dsn(value: str) -> str:
    try:
        conninfo_to_dict(value)
    except psycopg.Error:  # its message may quote the password
        raise ValueError("an address of Postgres was expected: postgresql://… or host=… dbname=…") from None
    return value


def _redis_url(value: str) -> str:
    if value != "none":
        try:
            redis.connection.parse_url(value)  # type: ignore[no-untyped-call]
        except ValueError:
            raise ValueError("none or an address of Redis was expected: redis://…, rediss://… or unix://…") from None
    return value


Dsn = Annotated[str, AfterValidator(_dsn)]
Name = Annotated[str, Field(min_length=1)]


_PREFIX: Final = "CORE_TABLES_"
# Variables that are read by others: the build, the tests, and what Kubernetes and Docker set for a service of our name.
_OF_OTHERS: Final = re.compile(
    "CORE_TABLES_(COMPILED|TEST_.+|(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_.+)?))"
)


class Settings(BaseSettings):
    """Where the servers are, and what is to be used there. Addresses that are not set are those of the stack in `stack_dir`."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    stack_dir: Path = Path(".core-tables")
    bootstrap_servers: str | None = None
    # The administrator's. Unless they are set, the DSNs of the roles are this one with another user. What may hold a password
    # is not part of the settings' repr.
    postgres_dsn: Dsn | None = Field(default=None, repr=False)
    worker_dsn: Dsn | None = Field(default=None, repr=False)
    reader_dsn: Dsn | None = Field(default=None, repr=False)
    operator_dsn: Dsn | None = Field(default=None, repr=False)
    reader_pooled: bool = False  # whether reader_dsn leads to a pooler in transaction mode
    redis_url: Annotated[str, AfterValidator(_redis_url)] | None = Field(default=None, repr=False)  # "none": no cache
    topic: Name = LEDGER_TOPIC
    audit_topic: Name = AUDIT_TOPIC
    partitions: Annotated[int, Field(ge=1, le=2048)] = PARTITIONS
    replication: Annotated[int, Field(ge=1)] = 1
    group_id: Name = "core-tables"
    health_file: Path | None = None  # where a worker reports once a second that it is alive
    # More settings for every Kafka client, as JSON; the clients check them.
    kafka: Mapping[str, str] = Field(default_factory=dict, repr=False)

    @cached_property
    def _stack(self) -> Mapping[str, str] | None:
        """The addresses of the local stack, if all of it runs."""
        try:
            from core_tables.deploy import stack
        except ImportError:  # installed without the extra `stack`
            return None
        found = stack.addresses(self.stack_dir)
        return (
            None
            if found is None
            else {"kafka": found.bootstrap_servers, "postgres": found.postgres_dsn, "redis": found.redis_url}
        )

    def _from_stack(self, part: str, variable: str) -> str:
        if self._stack is None:
            raise SetupError(
                f"{variable} is not set, and no local stack is running in {self.stack_dir}; "
                "run `core-tables stack up`, or set it to the address of your server",
                "machine",
            )
        return self._stack[part]

    def kafka_servers(self) -> str:
        """The bootstrap servers. Raises SetupError."""
        return self.bootstrap_servers or self._from_stack("kafka", "CORE_TABLES_BOOTSTRAP_SERVERS")

    def admin(self) -> str:
        """The administrator's DSN. Raises SetupError."""
        return self.postgres_dsn or self._from_stack("postgres", "CORE_TABLES_POSTGRES_DSN")

    def worker(self) -> str:
        """The worker's DSN. Raises SetupError."""
        return self.worker_dsn or self._as_role("core_tables_worker")

    def reader(self) -> str:
        """The reader's DSN: sees one tenant at a time. Raises SetupError."""
        return self.reader_dsn or self._as_role("core_tables_reader")

    def operator(self) -> str:
        """The operator's DSN: sees every tenant, changes nothing. Raises SetupError."""
        return self.operator_dsn or self._as_role("core_tables_operator")

    def cache(self) -> str | None:
        """The URL of the cache, or None; without a cache, every pending list is read from Postgres."""
        if self.redis_url is not None:
            return None if self.redis_url == "none" else self.redis_url
        return self._stack["redis"] if self._stack is not None and self.postgres_dsn is None else None

    def kafka_settings(self) -> KafkaSettings:
        """How the Kafka clients reach the broker. Raises SetupError."""
        return KafkaSettings(self.kafka_servers(), self.group_id, self.kafka)

    def ledger_settings(self) -> LedgerSettings:
        """Where a ledger appends and reads. Raises SetupError."""
        return LedgerSettings(self.kafka_servers(), self.reader(), self.topic, self.kafka, self.reader_pooled)

    def _as_role(self, role: str) -> str:
        return make_conninfo(self.admin(), user=role)


def unknown_variables(names: Iterable[str]) -> dict[str, str]:
    """Of the names of variables, those that look like a setting and are none, each with what to do."""
    settings = [name.upper() for name in Settings.model_fields]
    unknown = {}
    for name in sorted(names):
        setting = name.upper().removeprefix(_PREFIX)
        if name.upper().startswith(_PREFIX) and setting not in settings and not _OF_OTHERS.fullmatch(name):
            meant = next(iter(difflib.get_close_matches(setting, settings, n=1)), None)
            unknown[name] = f"did you mean {_PREFIX}{meant}?" if meant else "see docs/CONFIGURATION.md for the settings"
    return unknown
