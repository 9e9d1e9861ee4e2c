"""A console for tests: the real one over a world, in a thread, and what it logs."""

import contextlib
import threading
from collections.abc import Iterator, MutableMapping
from typing import Any, NamedTuple

import structlog
from starlette.testclient import TestClient

from core_tables.cli.console import console_ports, console_server
from core_tables.console.access import AccessCheck, Local
from core_tables.console.app import console_app
from core_tables.console.audit_tail import AuditFeed

from .world import World, wait_until

AT_HOME = "http://127.0.0.1"


class RunningConsole(NamedTuple):
    """A console, its feed, and the lines of its log."""

    app: AccessCheck
    feed: AuditFeed
    log: list[MutableMapping[str, Any]]

    def client(self) -> TestClient:
        """A program on the same machine that asks it."""
        return TestClient(self.app, base_url=AT_HOME, follow_redirects=False)


@contextlib.contextmanager
def console_of(world: World) -> Iterator[RunningConsole]:
    """The console of a world, for a user called ada."""
    lines: list[MutableMapping[str, Any]] = []

    def keep(_logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        lines.append({**event, "level": method})
        return ""

    log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[keep])
    ports = console_ports(world.settings, world.reads, log)
    try:
        yield RunningConsole(console_app(ports, Local("ada")), ports.feed, lines)
    finally:
        ports.feed.close()


@contextlib.contextmanager
def served(console: RunningConsole) -> Iterator[str]:
    """Serve a console at a port of this machine; its address."""
    server, bound = console_server(console.app, "127.0.0.1", 0)
    _host, port = bound.getsockname()
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    try:
        wait_until(lambda: server.started, "the console to listen")
        yield f"{AT_HOME}:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
