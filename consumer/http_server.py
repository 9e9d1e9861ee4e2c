"""A small HTTP server for probes and metrics, in threads of its own."""

import json
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple

from core_tables.schemas.reasons import SetupError

_CLIENT_TIMEOUT_S: Final = 5.0


class HttpPage(NamedTuple):
    """What a path answers."""

    status: int
    content_type: str
    body: bytes


HttpPages = Mapping[str, Callable[[], HttpPage]]  # by path


def json_page(ok: bool, body: object) -> HttpPage:
    """A page for a probe: 200, or 503."""
    return HttpPage(200 if ok else 503, "application/json", json.dumps(body).encode() + b"\n")


class HttpServer:
    """Serves pages until it is closed. Each request has a short thread of its own."""

    def __init__(self, host: str, port: int, pages: HttpPages) -> None:
        """Raises SetupError if the address cannot be used."""
        try:
            self._server = _server(host, port, pages)
        except OSError as error:
            raise SetupError(
                f"CORE_TABLES_HTTP: {host}:{port} cannot be listened on: {error.strerror or error}; choose another address",
                "machine",
            ) from error
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def close(self) -> None:
        """Answer no more requests."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the machine has no thread left, and the probe should still be answered
            self.process_request_thread(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or says nothing is not worth a line."""


def _server(host: str, port: int, pages: HttpPages) -> _Server:
    class Handler(BaseHTTPRequestHandler):
        timeout = _CLIENT_TIMEOUT_S
        server_version = "core-tables"
        sys_version = ""

        def do_GET(self) -> None:
            make = pages.get(self.path.partition("?")[0])
            try:
                page = HttpPage(404, "text/plain", b"not found\n") if make is None else make()
            except Exception as error:  # a defect of ours: the probe says so, and the worker continues
                page = HttpPage(500, "text/plain", f"{type(error).__name__}\n".encode())
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page.body)

        do_HEAD = do_GET  # noqa: N815 - as the base class has it

        def log_message(self, *_: Any) -> None:
            pass

    class Server(_Server):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    return Server((host, port), Handler)
