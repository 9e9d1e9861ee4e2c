"""A service that gives short-lived tokens for Kafka over HTTP, and can fail; and the function that asks it."""

import contextlib
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

ASK = f"{__name__}:token_of_service"
_TIMEOUT_S = 2.0


def token_of_service(url: str) -> tuple[str, float]:
    """A token, and when it expires. A broker that validates no signatures believes it."""
    with urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - the url of the test
        token, expires = json.load(answer)
    return token, expires


def unsigned_token(user: str, lifetime_s: int) -> tuple[str, float]:
    """A token that nobody signed, and when it expires."""
    now = int(time.time())
    claims = {"sub": user, "iat": now, "exp": now + lifetime_s}
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + ".", float(now + lifetime_s)


class TokenService:
    """What the service has given, and whether it fails.

    Attributes:
        given: when each token that it gave expires.
        refused: how often it failed.
    """

    def __init__(self, user: str, lifetime_s: int) -> None:
        self.url = ""
        self.given: list[float] = []
        self.refused = 0
        self._user = user
        self._lifetime_s = lifetime_s
        self._to_refuse = 0
        self._down = False
        self._answering = threading.Lock()

    def refuse(self, count: int) -> None:
        """Fail as often."""
        with self._answering:
            self._to_refuse = count

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Fail as long as the block runs."""
        self._down = True
        try:
            yield
        finally:
            self._down = False

    def answer(self) -> tuple[str, float] | None:
        """A new token; None if it fails."""
        with self._answering:
            if self._down or self._to_refuse:
                self._to_refuse = max(0, self._to_refuse - 1)
                self.refused += 1
                return None
            token = unsigned_token(self._user, self._lifetime_s)
            self.given.append(token[1])
            return token


@contextlib.contextmanager
def token_service(user: str, lifetime_s: int) -> Iterator[TokenService]:
    """The service, as long as the block runs."""
    service = TokenService(user, lifetime_s)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = service.answer()
            self.send_response(503 if token is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(token).encode())

        def log_message(self, format: str, *_args: object) -> None:  # noqa: A002 - the name in the library
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        service.url = f"http://127.0.0.1:{server.server_port}/token"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
