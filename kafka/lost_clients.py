"""Clients that do not find the brokers any more, although these answer others.

A broker that was suspended, or that its controllers have not taken back yet, says for a moment that no broker is up. librdkafka
2.16 then forgets every address that it knows, those of `bootstrap.servers` included, and mostly does not turn to them again
(confluentinc/librdkafka issue 5301). Such a client waits forever, without an error; only a new one helps.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient

from core_tables.kafka.client_settings import KafkaSettings
from core_tables.kafka.clients import admin_client
from core_tables.kafka.errors import unusable
from core_tables.schemas.reasons import UnavailableError

_T = TypeVar("_T")
LOST_S: Final = 30.0  # how long a client may have been without an answer before it counts as lost
_ANSWER_S: Final = 2.0


class RenewedAdmin:
    """An AdminClient that is replaced when a question to it was not answered.

    Attributes:
        client: the current one.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.client = admin_client(settings)
        # Kept for a while: a client that is collected does not answer what is still asked of it.
        self._before: deque[AdminClient] = deque(maxlen=3)

    def ask(self, question: Callable[[AdminClient], _T]) -> _T:
        """The answer to a question. Raises what `question` raises."""
        client = self.client
        try:
            return question(client)
        except UnavailableError:
            if client is self.client:  # another thread may have replaced it meanwhile
                self._before.append(client)
                self.client = admin_client(self._settings)
            raise


class WatchedClients:
    """Notices that one of a process's clients is lost."""

    def __init__(
        self,
        clients: Sequence[Consumer],
        topic: str,
        new: Callable[[], AdminClient],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`new` makes a client that has never asked anything, to be compared with."""
        self._clients = clients
        self._topic = topic
        self._new = new
        self._clock = clock
        self._silent_since: float | None = None

    def check(self) -> None:
        """Ask every client for the brokers; once one is not answered, the others are not asked.

        Raises UnavailableError if one is not answered, and FatalClientError after LOST_S of that if a new client is.
        """
        if all(self._finds_brokers(client) for client in self._clients):
            self._silent_since = None
            return
        now = self._clock()
        if self._silent_since is None:
            self._silent_since = now
        if now >= self._silent_since + LOST_S and self._finds_brokers(self._new()):
            raise unusable("it does not find the brokers any more, although a new client does")
        raise UnavailableError(
            "kafka", "Kafka does not answer every client of this process; see that the broker is running"
        )

    def _finds_brokers(self, client: Consumer | AdminClient) -> bool:
        try:
            return bool(client.list_topics(self._topic, timeout=_ANSWER_S).brokers)
        except KafkaException:
            return False
