"""Where a ledger appends and reads."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from core_tables.kafka.client_settings import Credentials, KafkaSettings
from core_tables.producer.connected_reads import CurrentUrl, DsnOfLanes
from core_tables.projection.postgres.connection import CurrentDsn
from core_tables.schemas.reasons import SetupError
from core_tables.schemas.vocabulary import LEDGER_TOPIC
from core_tables.settings.lane_map import lane_groups

if TYPE_CHECKING:
    from core_tables.settings.environment import Settings


@dataclass(frozen=True)
class LedgerSettings:
    """Where to append, and where to read.

    `postgres_dsn` is needed to wait for outcomes, to cancel and to read. Connect as a reader. `pooled`: the DSN leads to a
    pooler in transaction mode, through which outcomes are noticed up to 250 ms later.

    `redis_url` is the cache of pending lists; without it they come from Postgres. Cached lists may be some milliseconds older:
    after an append of your own, read with `at_least`.

    `scheduler_dsn` is of a login with the role core_tables_scheduler, which sees the tenants that have something due; only
    `Ledger.due` needs it.

    `postgres_lanes` says which lanes lie in which database, if there are several, as CORE_TABLES_POSTGRES_LANES does; the DSNs
    say who logs in, and how.

    Where a password may change, `postgres_dsn`, `scheduler_dsn` and `redis_url` are functions that give the current address,
    asked at each connection, and `kafka_credentials` one that gives name and password, asked when a broker refuses the login.
    `kafka` may hold callbacks of the Kafka client, such as `oauth_cb`.
    """

    bootstrap_servers: str
    postgres_dsn: CurrentDsn | None = field(default=None, repr=False)  # may hold a password, as may `kafka`
    topic: str = LEDGER_TOPIC
    kafka: Mapping[str, Any] = field(default_factory=dict, repr=False)
    pooled: bool = False
    kafka_credentials: Credentials | None = field(default=None, repr=False)
    redis_url: CurrentUrl | None = field(default=None, repr=False)
    scheduler_dsn: CurrentDsn | None = field(default=None, repr=False)
    postgres_lanes: str | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """The settings that the command has: of the variables CORE_TABLES_…, and else of the local stack in `.core-tables`.

        A variable that looks like a setting and is none gives a warning.

        Raises SetupError if a variable is wrong, or if an address is not set and no local stack is running here.
        """
        # An application that gives its own settings does not pay for loading these.
        from pydantic import ValidationError
        from pydantic_settings import SettingsError

        from core_tables.settings.environment import Settings, misspelt_variables, wrong_setting

        for name, advice in misspelt_variables().items():
            warnings.warn(f"{name} is not a setting of Core Tables, and is ignored; {advice}", stacklevel=3)
        try:
            return cls.of(Settings())
        except (ValidationError, SettingsError) as error:
            raise SetupError(f"{wrong_setting(error)}; see docs/CONFIGURATION.md for the settings", "machine") from None

    @classmethod
    def of(cls, settings: "Settings") -> Self:
        """What a ledger needs of the settings of the command. Raises SetupError or UnavailableError."""
        kafka, anywhere = settings.kafka_settings(), settings.without_lanes()
        anywhere.reader()
        return cls(
            kafka.bootstrap_servers,
            anywhere.reader,
            settings.topic,
            kafka.extra,
            settings.reader_pooled,
            kafka.credentials,
            settings.current_cache(),
            anywhere.scheduler,
            settings.postgres_lanes,
        )

    def readers(self) -> list[DsnOfLanes]:
        """Where a reader finds each database, and its lanes; none without a DSN."""
        return self._placed(self.postgres_dsn)

    def schedulers(self) -> list[DsnOfLanes]:
        """The same for the scheduler."""
        return self._placed(self.scheduler_dsn)

    def _placed(self, dsn: CurrentDsn | None) -> list[DsnOfLanes]:
        if dsn is None:
            return []
        if self.postgres_lanes is None:
            return [(None, dsn)]
        try:
            return [(group.lanes, group.placed_current(dsn)) for group in lane_groups(self.postgres_lanes)]
        except ValueError as error:
            raise SetupError(f"postgres_lanes is invalid: {error}", "machine") from None

    @property
    def kafka_settings(self) -> KafkaSettings:
        """How this ledger's Kafka clients reach the broker; `kafka` is passed to each of them."""
        return KafkaSettings(self.bootstrap_servers, extra=self.kafka, credentials=self.kafka_credentials)
