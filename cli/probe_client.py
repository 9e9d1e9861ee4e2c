"""Asks workers of this machine the questions of a probe, over HTTP."""

import http.client
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from core_tables.consumer.http_server import HttpPage, HttpPages, json_page
from core_tables.settings.forms import HttpAddress

_TIMEOUT_S: Final = 5.0
# A process that was started less than this ago may still be importing; one that is not reachable later makes no turns.
STARTS_S: Final = 90.0
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not bound


class Answered(NamedTuple):
    """The status of an answer, and its body."""

    status: int
    body: dict[str, Any]


def ask(address: HttpAddress, path: str) -> Answered | None:
    """The answer of the worker that listens on an address; None if there is none in time."""
    connection = http.client.HTTPConnection(_ANY.get(address.host, address.host), address.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return Answered(answer.status, body) if isinstance(body, dict) else None


class ProcessProbes:
    """Answers for several workers, each a process that listens on a port of its own: yes, if every one says so."""

    def __init__(self, running: Callable[[], Sequence[HttpAddress]]) -> None:
        """`running`: where the workers that have not ended listen."""
        self._running = running
        self._started_at = time.monotonic()

    def pages(self) -> HttpPages:
        """The pages of the probes."""
        return {path: lambda path=path: self._page(path) for path in ("/healthz", "/readyz")}  # type: ignore[misc]

    def _page(self, path: str) -> HttpPage:
        answers = {address.port: ask(address, path) for address in self._running()}
        starting = path == "/healthz" and time.monotonic() < self._started_at + STARTS_S
        ok = all(starting if answer is None else answer.status == http.client.OK for answer in answers.values())
        body = {
            "workers": [
                {"port": port, **({"problems": "it does not answer"} if answer is None else answer.body)}
                for port, answer in answers.items()
            ]
        }
        return json_page(ok, body)
