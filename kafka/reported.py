"""What the Kafka clients of this process reported last about their connections.

A call that is not answered says no more than that it timed out. Why (a wrong password, a certificate that nobody trusts, a name
that does not resolve) a client tells only a callback, which `note` is for every client of ours (clients.py).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException

RECENT_S: Final = 60.0
# How long to wait for an answer where a broker refuses the login or is not trusted: another one may answer meanwhile.
REFUSED_S: Final = 2.0
_FIRST_WAIT_S: Final = 0.25
_REFUSED: Final = {KafkaError._AUTHENTICATION, KafkaError._SSL}
_T = TypeVar("_T")


class _Report(NamedTuple):
    error: KafkaError
    at: float


_latest: list[_Report] = []  # at most one


class Polled(Protocol):
    """A client whose `poll` only calls callbacks: an AdminClient or a Producer."""

    def poll(self, timeout: float = ...) -> int: ...


def note(error: KafkaError) -> None:
    """Remember what a client reported. That all brokers are down is left out: why they are was reported before it."""
    if error.code() != KafkaError._ALL_BROKERS_DOWN:
        _latest[:] = [_Report(error, time.monotonic())]


def forget_refusals() -> None:
    """What was reported about a login is over: the client has other credentials now."""
    _latest[:] = [report for report in _latest if report.error.code() != KafkaError._AUTHENTICATION]


def reported(clock: Callable[[], float] = time.monotonic) -> KafkaError | None:
    """The last report of the past RECENT_S seconds, or None."""
    return next((report.error for report in _latest if clock() < report.at + RECENT_S), None)


@contextmanager
def hearing(client: Polled) -> Iterator[None]:
    """Around a question to the broker: if it fails, let the client report why before the error is translated."""
    try:
        yield
    except (KafkaException, TimeoutError):
        client.poll(0)
        raise


def answered_within(client: Polled, ask: Callable[..., _T], timeout: float) -> _T:
    """The broker's answer to `ask(timeout=…)`, asked again and each time for longer, until `timeout` seconds are over.

    In between the client calls back, and may be given another password. Raises KafkaException: after REFUSED_S already, if the
    client reports that the answer cannot come.
    """
    begun, waited_s, wait_s = time.monotonic(), 0.0, _FIRST_WAIT_S
    while True:
        try:
            return ask(timeout=min(wait_s, max(_FIRST_WAIT_S, timeout - waited_s)))
        except KafkaException:
            client.poll(0)
            report, waited_s = reported(), time.monotonic() - begun
            if report is not None and report.code() in _REFUSED and waited_s > REFUSED_S:
                raise KafkaException(report) from None
            if waited_s >= timeout:
                raise
            wait_s *= 2
