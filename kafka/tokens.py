"""Tokens for Kafka from a function (OAUTHBEARER): it is called again if it fails, and why it failed is said.

The Kafka client calls the function of each client when four fifths of a token's time are over. If the function raises, the client
drops the reason and calls it again 10 s later, which is also how long a new client waits for its first token. After an answer
that is no token, the client would never call it again.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from confluent_kafka import KafkaError

from core_tables.kafka.client_settings import KafkaSettings
from core_tables.kafka.reported import forget_refusals, note

OAUTH: Final = "oauth_cb"  # the setting of the client with the function
_PAUSES_S: Final = (0.25, 0.5, 1.0, 2.0)  # together, and with what the function takes, less than a new client waits
_FORM: Final = "the token and when it expires, in seconds since 1970"


class Tokens:
    """What clients call for a token. It may be shared by all clients of a process.

    Attributes:
        failure: why the function failed the last time; None once it has given a token.
    """

    def __init__(self, ask: Callable[[str], Any], log: Any = None, pauses_s: Sequence[float] = _PAUSES_S) -> None:
        """`ask` returns the token and when it expires. Each reason for a failure is logged once until there is a token.

        `pauses_s`: after how long it is called again if it fails.
        """
        self._ask = ask
        self._log = log
        self._pauses_s = pauses_s
        self._noting = threading.Lock()
        self.failure: str | None = None

    def __call__(self, config: str) -> Any:
        """A token, in the form that the client wants. Raises what the function raised the last time."""
        pauses = iter(self._pauses_s)
        while True:
            try:
                token = _checked(self._ask(config))
            except Exception as error:
                self._failed(error)
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise
                time.sleep(pause_s)
            else:
                self._gave()
                return token

    def note(self, error: KafkaError) -> None:
        """The callback for errors of clients that use this: they know that they got no token, but not why."""
        failure = self.failure
        if failure is not None and error.code() == KafkaError._AUTHENTICATION:
            note(KafkaError(error.code(), f"there is no token for Kafka: {failure}"))
        else:
            note(error)

    def _failed(self, error: Exception) -> None:
        failure = f"{type(error).__name__}: {error}"
        with self._noting:
            known, self.failure = failure == self.failure, failure
        if self._log is not None and not known:
            self._log.warning("token_failed", cause=failure)

    def _gave(self) -> None:
        with self._noting:
            failed, self.failure = self.failure is not None, None
        if failed:
            forget_refusals()
            if self._log is not None:
                self._log.info("token_given")


def with_logged_tokens(settings: KafkaSettings, log: Any) -> KafkaSettings:
    """The same settings; failures of the function that gives tokens, if there is one, are logged."""
    ask = settings.extra.get(OAUTH)
    return settings if ask is None else replace(settings, extra={**settings.extra, OAUTH: Tokens(ask, log)})


def _checked(token: Any) -> Any:
    match token:
        case (str(), float() | int() as expires, *more):
            if expires <= time.time():
                raise ValueError(f"the token expired {time.time() - expires:.0f} s ago, by this machine's clock")
        case _:
            raise TypeError(f"the function returned {type(token).__name__}; it must return {_FORM}")
    match more:
        case [] | [str()]:
            pass
        case [str(), dict() as extensions] if all(
            isinstance(each, str) for pair in extensions.items() for each in pair
        ):
            pass
        case _:
            raise TypeError(f"the function may only add a principal and extensions, which are texts, to {_FORM}")
    return tuple(token)
