"""How Kafka is reached, and what a client says of it; apart from the clients, which not every command waits for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core_tables.schemas.reasons import SetupError

Credentials = Callable[[], tuple[str, str]]


@dataclass(frozen=True)
class KafkaSettings:
    """How a program's Kafka clients reach the broker.

    Attributes:
        group_id: the workers' consumer group.
        extra: passed to each client: security and the like, and callbacks such as `oauth_cb`. It may hold a password.
        credentials: gives the current name and password, and is asked when a broker refuses the login.
    """

    bootstrap_servers: str
    group_id: str = "core-tables"
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    credentials: Credentials | None = field(default=None, repr=False)


class ClientSettingError(SetupError):
    """The Kafka client rejects a setting; `why` is its own explanation."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the Kafka client rejects a setting: {why}; correct the settings passed to it", "machine")
        self.why = why
