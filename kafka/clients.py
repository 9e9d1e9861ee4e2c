"""The Kafka clients, each with the settings that its job needs.

`KafkaSettings.extra` overrides some defaults, but no setting that the job depends on. Every function raises
ClientSettingError if the client rejects a setting, and UnavailableError if the function for tokens gives none.
"""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable
from operator import methodcaller
from typing import Any, ClassVar, Final, TypeVar
from weakref import WeakSet

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from core_tables.kafka.client_settings import ClientSettingError, Credentials, KafkaSettings
from core_tables.kafka.reported import forget_refusals, note
from core_tables.kafka.tokens import OAUTH, Tokens
from core_tables.schemas.reasons import CoreTablesError, UnavailableError

REQUEST_TIMEOUT_S: Final = 10.0
TRANSACTION_TIMEOUT_S: Final = 15.0
DELIVERY_TIMEOUT_S: Final = 30.0
RENEWED_FOR_S: Final = 60.0  # how long another password is looked for after a refused login
_LOOK_EVERY_S: Final = 1.0
# When a client that no broker answers turns to the configured addresses again; five minutes by default. See lost_clients.py.
_BOOTSTRAP_AGAIN_MS: Final = 5_000
LOG_END_GROUP: Final = "core-tables.log-end"
_READING: Final = {
    "enable.auto.commit": False,
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 10,
}
_CLASSIC_TIMES: Final = {
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 1_000,  # a member learns about a rebalance by a heartbeat, and a rebalance takes two
}
_DELIVERY_TIMEOUT: Final = ("delivery.timeout.ms", "message.timeout.ms")  # two names of one setting; 0 means never
_CLASSIC_ASSIGNOR: Final = {"partition.assignment.strategy": "cooperative-sticky"}
Client = TypeVar("Client")
# The client sets an exception there, and returns a list with a missing item all the same. Only a call through the C API sees
# that; the interpreter's own, once it is specialized, hands out the list, and reading it is a segmentation fault.
_headers_of: Final[Callable[[Message], Any]] = methodcaller("headers")


def ledger_consumer(settings: KafkaSettings, fetch_ahead: int, client_id: str = "rdkafka") -> Consumer:
    """The consumer of the ledger topic. It tries to hold `fetch_ahead` records of each partition in memory.

    The consumer group shares the partitions among the workers. No position is ever read from it. With
    `group.protocol=consumer` (KIP-848) the brokers choose some settings, which the client then rejects.
    """
    classic = settings.extra.get("group.protocol") != "consumer"
    return _client(
        Consumer,
        {
            "client.id": client_id,
            **(_CLASSIC_TIMES if classic else {}),
            **_common(settings),
            **(_CLASSIC_ASSIGNOR if classic else {}),
            "group.id": settings.group_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "max.poll.interval.ms": 120_000,
            "queued.min.messages": fetch_ahead,
            "queued.max.messages.kbytes": 8_192,
            "fetch.queue.backoff.ms": 20,
            "fetch.wait.max.ms": 50,
            "max.partition.fetch.bytes": 131_072,
        },
    )


def delivery_timeout_s(settings: KafkaSettings) -> float:
    """How long a record of the ledger may be without an answer, in seconds. Raises ClientSettingError if it is no number."""
    name, given = next(
        ((name, settings.extra[name]) for name in _DELIVERY_TIMEOUT if name in settings.extra),
        ("", DELIVERY_TIMEOUT_S * 1000),
    )
    with contextlib.suppress(TypeError, ValueError):
        if (milliseconds := int(given)) >= 0:
            return milliseconds / 1000 or math.inf
    raise ClientSettingError(f"{name} is not a number of milliseconds: {given!r}")


def tail_group(settings: KafkaSettings) -> str:
    """The group of a `partition_consumer`. It has no members, but the broker asks for READ on it."""
    return f"{settings.group_id}.audit-tail"


def partition_consumer(settings: KafkaSettings) -> Consumer:
    """A consumer that reads partitions from given offsets; it joins no group and commits nothing."""
    return _client(
        Consumer,
        {**_common(settings), **_READING, "group.id": tail_group(settings), "auto.offset.reset": "error"},
    )


def log_end_consumer(settings: KafkaSettings) -> Consumer:
    """Like `partition_consumer`, for a program that rarely reads a record: it keeps little in memory."""
    return _client(
        Consumer,
        {
            **_common(settings),
            **_READING,
            "group.id": LOG_END_GROUP,
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 65_536,
            "queued.max.messages.kbytes": 256,
            "fetch.queue.backoff.ms": 20,
        },
    )


def audit_producer(settings: KafkaSettings, transactional_id: str) -> Producer:
    """The producer of one audit partition. Opening a transactional.id fences the producer that used it before."""
    return _client(
        Producer,
        {
            **_common(settings),
            "transactional.id": transactional_id,
            "transaction.timeout.ms": int(TRANSACTION_TIMEOUT_S * 1000),
            "message.timeout.ms": int(REQUEST_TIMEOUT_S * 1000),
            "linger.ms": 2,
            "compression.type": "lz4",
        },
    )


def ledger_producer(settings: KafkaSettings, log: logging.Logger) -> Producer:
    """The producer of the ledger topic. Log lines of the client itself go to `log`.

    It gives no record up: who sends with it discards it after `delivery_timeout_s` (producer/deliveries.py says why).
    """
    return _client(
        Producer,
        {
            "linger.ms": 2,
            "compression.type": "lz4",
            **{name: value for name, value in _common(settings).items() if name not in _DELIVERY_TIMEOUT},
            "message.timeout.ms": 0,
            # Not to be overridden: the contract promises durable appends in order, and names the partitioner. It is that of
            # the Java client, not librdkafka's default.
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
        },
        log,
    )


def admin_client(settings: KafkaSettings) -> AdminClient:
    """A client for topics and offsets. Keep a reference until it has answered: once collected, it never does."""
    return _client(
        AdminClient,
        {
            "socket.timeout.ms": int(REQUEST_TIMEOUT_S * 1000),
            **_common(settings),
            # Not to be overridden: to ask about a topic must not create it.
            "allow.auto.create.topics": False,
            # Else a client whose question waits for a lost broker connects to it without a pause, and keeps a core busy: each
            # change of a connection makes it look again at once (rd_kafka_broker_find_by_nodeid0 in librdkafka 2.16).
            "enable.sparse.connections": False,
        },
    )


def no_log() -> logging.Logger:
    """A logger that drops the log lines of the client; what matters is also returned as an error."""
    log = logging.getLogger("core_tables.kafka")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    log.propagate = False
    return log


def headers_of(message: Message) -> list[tuple[str, bytes | str | None]] | None:
    """The headers of a record; None if the name of one is not UTF-8: the client gives out none of them then.

    To be called once per message: the client would return the list with a missing item, and reading it ends the process.
    """
    try:
        return _headers_of(message) or []
    except Exception:  # SystemError, as it happens
        return None


def header(headers: Any, name: str) -> bytes | None:
    """The value of the last header with a name, or None."""
    found = None
    for key, value in headers or ():
        if key == name and isinstance(value, bytes):
            found = value
    return found


def _common(settings: KafkaSettings) -> dict[str, Any]:
    """The settings of every client: with the current credentials, since a worker opens audit producers all its life."""
    extra = dict(settings.extra)
    callback: Callable[[KafkaError], None] = note
    if OAUTH in extra:
        tokens = extra[OAUTH] if isinstance(extra[OAUTH], Tokens) else Tokens(extra[OAUTH])
        extra[OAUTH], callback = tokens, tokens.note
    elif settings.credentials is not None and "sasl.password" in extra:
        with contextlib.suppress(CoreTablesError):  # then those of before; the callback looks again
            extra["sasl.username"], extra["sasl.password"] = settings.credentials()
        callback = _Renewal(settings.credentials, (str(extra["sasl.username"]), str(extra["sasl.password"])))
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "metadata.recovery.rebootstrap.trigger.ms": _BOOTSTRAP_AGAIN_MS,
        "log_level": 3,
        "error_cb": callback,
        **extra,
    }


class _Renewal:
    """The callback of a client whose password may change: after a refused login it gives every client the current one.

    A client reports the same refusal only every 30 s. So if there is no other password yet, it is looked for again. A client
    that nobody polls reports nothing, so each renews all of this process.
    """

    _all: ClassVar["WeakSet[_Renewal]"] = WeakSet()
    _changing: ClassVar = threading.Lock()

    def __init__(self, credentials: Credentials, given: tuple[str, str]) -> None:
        self._credentials = credentials
        self._given = given
        self._renewing = threading.Lock()
        self.client: Any = None
        with self._changing:
            self._all.add(self)

    def __call__(self, error: KafkaError) -> None:
        note(error)
        if error.code() == KafkaError._AUTHENTICATION:
            # In a thread of its own: a client that is called from its own callback aborts the process.
            threading.Thread(target=self._renew, name="core-tables credentials", daemon=True).start()

    def _renew(self) -> None:
        if self._renewing.acquire(blocking=False):
            deadline = time.monotonic() + RENEWED_FOR_S
            try:
                while not self._renewed() and time.monotonic() < deadline:
                    time.sleep(_LOOK_EVERY_S)
            finally:
                self._renewing.release()
            with self._changing:
                others = [other for other in self._all if other is not self]
            for other in others:
                other._renewed()

    def _renewed(self) -> bool:
        """Whether there are other credentials than the client has; it gets them."""
        with contextlib.suppress(CoreTablesError, KafkaException, RuntimeError):  # the last if it is closed
            current = self._credentials()
            if self.client is not None and current != self._given:
                self.client.set_sasl_credentials(*current)
                self._given = current
                forget_refusals()
                return True
        return False


def _client(kind: Callable[..., Client], config: dict[str, Any], log: logging.Logger | None = None) -> Client:
    try:
        client = kind(config, logger=log or no_log())
    except KafkaException as error:
        cause = error.args[0]
        if isinstance(cause, KafkaError) and cause.code() == KafkaError._INVALID_ARG:
            raise ClientSettingError(cause.str()) from error
        tokens = config.get(OAUTH)
        if isinstance(tokens, Tokens):
            raise UnavailableError(
                "kafka",
                f"there is no token for Kafka: {tokens.failure or cause}; check the function that gives tokens, and what it asks "
                "(set CORE_TABLES_KAFKA_OAUTH)",
            ) from error
        raise
    callback = config["error_cb"]
    if isinstance(callback, _Renewal):
        callback.client = client
    return client
