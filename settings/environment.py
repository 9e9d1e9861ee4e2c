"""The settings of the command and of `Ledger.connect()`, read from the environment once, as one frozen object."""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from psycopg.conninfo import make_conninfo
from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from core_tables.kafka.client_settings import KafkaSettings
from core_tables.schemas.reasons import SetupError, UnavailableError
from core_tables.schemas.vocabulary import AUDIT_TOPIC, LEDGER_TOPIC, PARTITIONS
from core_tables.settings.forms import (
    HttpAddress,
    dsn_form,
    http_address,
    http_form,
    importable_form,
    kafka_form,
    lanes_form,
    redis_url_form,
)
from core_tables.settings.lane_map import LANE_MAP, LaneGroup, lane_groups

# The settings that may hold a password, and what each must be.
SECRETS: Final[Mapping[str, Callable[[str], Any]]] = {
    "postgres_dsn": dsn_form,
    "worker_dsn": dsn_form,
    "reader_dsn": dsn_form,
    "operator_dsn": dsn_form,
    "scheduler_dsn": dsn_form,
    "redis_url": redis_url_form,
    "kafka": kafka_form,
}


LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["json", "text"]


Dsn = Annotated[str, AfterValidator(dsn_form)]
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
    scheduler_dsn: Dsn | None = Field(default=None, repr=False)
    reader_pooled: bool = False  # whether reader_dsn leads to a pooler in transaction mode
    postgres_lanes: Annotated[str, AfterValidator(lanes_form)] | None = None  # which lanes lie in which database
    redis_url: Annotated[str, AfterValidator(redis_url_form)] | None = Field(
        default=None, repr=False
    )  # "none": no cache
    topic: Name = LEDGER_TOPIC
    audit_topic: Name = AUDIT_TOPIC
    partitions: Annotated[int, Field(ge=1, le=2048)] = PARTITIONS
    replication: Annotated[int, Field(ge=1)] = 1
    group_id: Name = "core-tables"
    http: Annotated[str, AfterValidator(http_form)] | None = None  # where a worker answers probes and shows metrics
    tenant: Name | None = None  # of the commands that need a tenant and are given none
    traces: bool = False  # whether a worker makes spans (extra `otel`)
    log_level: LogLevel = "info"
    log_format: LogFormat = "json"
    health_file: Path | None = None  # where a worker reports once a second that it is alive
    # More settings for every Kafka client, as JSON; the clients check them.
    kafka: Mapping[str, str] = Field(default_factory=dict, repr=False)
    # The same from files, which are read again at each connection, so that a password can be changed.
    postgres_dsn_file: Path | None = None
    worker_dsn_file: Path | None = None
    reader_dsn_file: Path | None = None
    operator_dsn_file: Path | None = None
    scheduler_dsn_file: Path | None = None
    redis_url_file: Path | None = None
    kafka_file: Path | None = None
    kafka_oauth: Annotated[str, AfterValidator(importable_form)] | None = (
        None  # `package.module:function`, gives tokens
    )

    _group: LaneGroup | None = PrivateAttr(default=None)  # of one of the databases that postgres_lanes names

    @model_validator(mode="after")
    def _check_lanes(self) -> Self:
        if self.postgres_lanes is not None and self.reader_pooled:
            raise ValueError(f"{LANE_MAP} and CORE_TABLES_READER_POOLED are both set; unset one of them")
        return self

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        for name in SECRETS:
            variable = f"CORE_TABLES_{name.upper()}"
            if getattr(self, f"{name}_file") is None:
                continue
            if getattr(self, name):
                raise ValueError(f"{variable} and {variable}_FILE are both set; unset one of them")
            try:
                self._given(name)
            except UnavailableError as error:
                raise ValueError(error.message) from None
        return self

    def _given(self, name: str) -> Any:
        """A setting that may hold a password: as it was set, or as its file has it now. Raises UnavailableError."""
        file = getattr(self, f"{name}_file")
        if file is None:
            return getattr(self, name)
        try:
            return SECRETS[name](file.read_text("utf-8").strip())
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UnavailableError(
                "kafka" if name == "kafka" else "postgres",
                f"the file of CORE_TABLES_{name.upper()}_FILE cannot be used: {why}; correct the file, or see that it is mounted",
            ) from None

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

    def databases(self) -> tuple[Self, ...]:
        """These settings for each database of the ledger: itself, or a copy for each entry of postgres_lanes."""
        copies = []
        for group in self.lane_groups():
            copy = self.without_lanes()
            copy._group = group
            copies.append(copy)
        return tuple(copies) or (self,)

    def lane_groups(self) -> tuple[LaneGroup, ...]:
        """The entries of postgres_lanes; none if it is not set."""
        return () if self.postgres_lanes is None else lane_groups(self.postgres_lanes)

    def without_lanes(self) -> Self:
        """These settings as if there were one database: its DSNs say who logs in, and how."""
        return self.model_copy(update={"postgres_lanes": None})

    @property
    def lanes(self) -> frozenset[int] | None:
        """The lanes that the database has; None if it has all."""
        return None if self._group is None else self._group.lanes

    @property
    def place(self) -> str:
        """Which of several databases this is, to be put behind a name: `, lanes 0-5`. Empty if there is one."""
        return "" if self._group is None else f", {self._group.name}"

    def kafka_servers(self) -> str:
        """The bootstrap servers. Raises SetupError."""
        return self.bootstrap_servers or self._from_stack("kafka", "CORE_TABLES_BOOTSTRAP_SERVERS")

    def admin(self) -> str:
        """The administrator's DSN. Raises SetupError or UnavailableError, as do those of the roles.

        If the ledger has several databases, ask those of `databases`.
        """
        return self._at_its_place(self._administrator())

    def worker(self) -> str:
        """The worker's DSN."""
        return self._of_role("worker")

    def reader(self) -> str:
        """The reader's DSN: sees one tenant at a time."""
        return self._of_role("reader")

    def operator(self) -> str:
        """The operator's DSN: sees every tenant, changes nothing."""
        return self._of_role("operator")

    def scheduler(self) -> str:
        """The scheduler's DSN: sees which tenants have something due, and nothing else."""
        return self._of_role("scheduler")

    def cache(self) -> str | None:
        """The URL of the cache, or None; without a cache, every pending list is read from Postgres."""
        given = self._given("redis_url")
        if given is not None:
            return None if given == "none" else str(given)
        own_database = self.postgres_dsn is not None or self.postgres_dsn_file is not None
        return self._stack["redis"] if self._stack is not None and not own_database else None

    def current_cache(self) -> Callable[[], str] | None:
        """Gives the URL of the cache each time, since a password in it may change; None without a cache."""
        return None if self.cache() is None else lambda: self.cache() or ""

    def kafka_settings(self) -> KafkaSettings:
        """How the Kafka clients reach the broker. Raises SetupError or UnavailableError."""
        extra = dict(self._given("kafka"))
        if self.kafka_oauth is not None:
            module, _, name = self.kafka_oauth.partition(":")
            extra["oauth_cb"] = getattr(import_module(module), name)
        credentials = None if self.kafka_file is None else self._credentials
        return KafkaSettings(self.kafka_servers(), self.group_id, extra, credentials)

    def _credentials(self) -> tuple[str, str]:
        kafka = self._given("kafka")
        return kafka.get("sasl.username", ""), kafka.get("sasl.password", "")

    def http_address(self) -> HttpAddress | None:
        """Where a worker answers probes; None: nowhere."""
        return None if self.http is None else http_address(self.http)

    def _administrator(self) -> str:
        return self._given("postgres_dsn") or self._from_stack("postgres", "CORE_TABLES_POSTGRES_DSN")

    def _of_role(self, role: str) -> str:
        given = self._given(f"{role}_dsn")
        return self._at_its_place(given or make_conninfo(self._administrator(), user=f"core_tables_{role}"))

    def _at_its_place(self, dsn: str) -> str:
        if self.postgres_lanes is not None:
            raise SetupError("this cannot be asked of all databases of the ledger at once", "machine")
        return dsn if self._group is None else self._group.placed(dsn)


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


def misspelt_variables() -> dict[str, str]:
    """The variables of this process that look like a setting and are none, each with what to do."""
    return unknown_variables(os.environ)


def wrong_setting(error: ValidationError | SettingsError) -> str:
    """Which variable is wrong, and why, of an error that `Settings()` raised. No text of it quotes a value."""
    if isinstance(error, SettingsError):  # the one setting that is not plain text
        return f"{_PREFIX}KAFKA is invalid: a JSON object was expected"
    first = error.errors()[0]
    why = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # about several settings, which the message names
        return why
    name, *_ = first["loc"]
    return f"{_PREFIX}{str(name).upper()} is invalid: {why}"
