"""Who may ask the console: the check of every request before its page, and the headers of every response.

Bound to this machine, it answers requests for names of this machine only: a web page elsewhere whose name was pointed at
127.0.0.1 (DNS rebinding) must not read it. Bound to any other address it needs a proxy that says who the user is, or
passwords.
"""

import base64
import binascii
import ipaddress
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core_tables.console.passwords import Passwords

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Local(NamedTuple):
    """Everyone on this machine may ask; they are all known as `user`."""

    user: str


class Proxied(NamedTuple):
    """A proxy in one of these networks says in a header who the user is."""

    header: str
    networks: tuple[Network, ...]


class WithPassword(NamedTuple):
    """Users log in by name and password (HTTP Basic)."""

    passwords: Passwords


Access = Local | Proxied | WithPassword


class AccessCheck:
    """Lets a request through with `user` in its state, or answers why not; adds the headers to each response."""

    def __init__(self, app: ASGIApp, access: Access, log: Any) -> None:
        self._app = app
        self._access = access
        self._log = log
        # Passwords are hashed one after the other: guessing is slow, and takes neither memory nor the threads of the pages.
        self._one_at_a_time = CapacityLimiter(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = await self._refusal(HTTPConnection(scope))
        await (refusal or self._app)(scope, receive, _with_headers(send))

    async def _refusal(self, request: HTTPConnection) -> Response | None:
        match self._access:
            case Local(user):
                if _host(request.headers) not in _LOOPBACK_NAMES:
                    return self._refused(
                        request, "host", 400, "this console answers for localhost only: open http://127.0.0.1"
                    )
                request.state.user = user
            case Proxied(header, networks):
                if not _is_within(request, networks):
                    return self._refused(request, "proxy", 403, "this console answers to its proxy only")
                users = request.headers.getlist(header)
                if len(users) != 1 or not users[0].strip():
                    return self._refused(
                        request, "header", 403, f"the proxy must send the header {header} once, with the user"
                    )
                request.state.user = users[0].strip()
            case WithPassword(passwords):
                name, password = _basic(request.headers.get("authorization", ""))
                if not passwords.knows(name, password) and not await to_thread.run_sync(
                    passwords.accepts, name, password, limiter=self._one_at_a_time
                ):
                    if request.headers.get("authorization"):
                        return self._refused(request, "password", 401, "the name or the password is wrong")
                    return _asking_for_password("log in with your name and password")
                request.state.user = name
        return None

    def _refused(self, request: HTTPConnection, cause: str, status: int, why: str) -> Response:
        client = request.client.host if request.client is not None else None
        self._log.warning("console_refused", client=client, cause=cause)
        return _asking_for_password(why) if status == 401 else PlainTextResponse(f"{why}\n", status)


def _asking_for_password(why: str) -> Response:
    challenge = {"www-authenticate": 'Basic realm="Core Tables", charset="UTF-8"'}
    return PlainTextResponse(f"{why}\n", 401, challenge)


def _host(headers: Headers) -> str:
    """The name that a request is for, without its port; "" if it does not say exactly one."""
    hosts = headers.getlist("host")
    host = hosts[0].strip().lower() if len(hosts) == 1 else ""
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host


def _is_within(request: HTTPConnection, networks: tuple[Network, ...]) -> bool:
    try:
        address = ipaddress.ip_address(request.client.host if request.client is not None else "")
    except ValueError:
        return False
    plain = getattr(address, "ipv4_mapped", None) or address
    return any(plain in network for network in networks)


def _basic(header: str) -> tuple[str, str]:
    """The name and the password of a request; empty ones, which no user has, if it brings none."""
    scheme, _, encoded = header.partition(" ")
    try:
        name, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return (name, password) if scheme.lower() == "basic" else ("", "")


def _with_headers(send: Send) -> Callable[[Message], Any]:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return send_with_headers
