"""The console: read-only pages for operators and support, in a browser."""

import getpass
import ipaddress
import logging
import signal
import socket
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from core_tables.cli import output, wiring
from core_tables.cli.log_lines import logger_of
from core_tables.cli.refusals import ledger_record
from core_tables.kafka.lost_clients import RenewedAdmin
from core_tables.kafka.shown_record import shown_record
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas.reasons import SetupError
from core_tables.schemas.topic import LedgerTopic
from core_tables.settings.environment import Settings

if TYPE_CHECKING:
    import uvicorn

    from core_tables.console.access import Access, Network
    from core_tables.console.ports import Ports

PACKAGES_OF_THE_CONSOLE: Final = ("jinja2", "starlette", "uvicorn")
CONSOLE_PORT: Final = 8600


@click.command(epilog=output.EXIT_CODES)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="The address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=CONSOLE_PORT, show_default=True, help="The port; 0: any."
)
@click.option("--auth-header", metavar="NAME", help="The header in which a proxy names the user; with --trusted-proxy.")
@click.option(
    "--trusted-proxy",
    "proxies",
    multiple=True,
    metavar="CIDR",
    help="Answer to proxies in this network only; may be repeated.",
)
@click.option(
    "--passwords",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Ask for a name and a password, and accept those of the file.",
)
@click.option("--hash-password", metavar="NAME", help="Ask for a password, print its line for the file, and end.")
def console(
    host: str,
    port: int,
    auth_header: str | None,
    proxies: tuple[str, ...],
    passwords: Path | None,
    hash_password: str | None,
) -> None:
    """Show the ledger in a browser, read-only.

    Without an option, only this machine can open it. Any other address needs a proxy that logs users in (--auth-header and
    --trusted-proxy), or --passwords.
    """
    require_console_packages()
    from core_tables.console.app import console_app
    from core_tables.console.passwords import hashed_password

    if hash_password is not None:
        password = click.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
        click.echo(hashed_password(_user_name(hash_password), password))
        return
    access = _access(host, auth_header, proxies, passwords)
    settings = Settings()
    # Whatever CORE_TABLES_LOG_LEVEL says: who looked at values is logged in any case.
    log = logger_of(settings, "console", level="info")
    with closing(wiring.reads(settings)) as reads:
        ports = console_ports(settings, reads, log)
        try:
            _serve(console_app(ports, access), host, port, log)
        finally:
            ports.feed.close()


def require_console_packages() -> None:
    """Raise SetupError if the extra `console` is not installed."""
    missing = [name for name in PACKAGES_OF_THE_CONSOLE if find_spec(name) is None]
    if missing:
        raise SetupError(
            f"the console needs packages that are not installed ({', '.join(missing)}); "
            "run `pip install 'core-tables[console]'`",
            "machine",
        )


def console_ports(settings: Settings, reads: Reads, log: Any) -> "Ports":
    """What the pages read with. Raises SetupError or UnavailableError if the ledger cannot be reached now."""
    from core_tables.console.audit_tail import AuditFeed
    from core_tables.console.latest_status import LatestStatus
    from core_tables.console.ports import Ports

    admin = RenewedAdmin(settings.kafka_settings())

    def topic() -> LedgerTopic:
        return wiring.known_topic(settings)

    def status() -> Any:
        return admin.ask(partial(wiring.status_now, settings))

    def record(event_id: int) -> dict[str, Any] | None:
        found = ledger_record(settings, event_id)
        return None if found is None else shown_record(event_id, *found)

    topic()
    feed = AuditFeed(partial(wiring.topic_reader, settings, settings.audit_topic), lambda: topic().partitions)
    return Ports(reads=reads, status=LatestStatus(status).get, record=record, feed=feed, log=log)


def _access(host: str, auth_header: str | None, proxies: tuple[str, ...], passwords: Path | None) -> "Access":
    from core_tables.console.access import Local, Proxied, WithPassword
    from core_tables.console.passwords import Passwords

    if (auth_header is None) != (not proxies):
        raise click.UsageError(
            "--auth-header and --trusted-proxy need each other: anyone else could send the header, too"
        )
    if auth_header is not None and passwords is not None:
        raise click.UsageError("give either --auth-header or --passwords")
    if auth_header is not None:
        return Proxied(auth_header, tuple(map(_network, proxies)))
    if passwords is not None:
        return WithPassword(Passwords.read(passwords))
    if not _is_loopback(host):
        raise click.UsageError(
            f"{host} can be reached from other machines, so users must log in: give --auth-header with --trusted-proxy, "
            "or --passwords"
        )
    return Local(f"{_this_user()} (local)")


def _this_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for it
        return "somebody"


def _user_name(name: str) -> str:
    if not name or ":" in name or not name.isprintable() or name != name.strip():
        raise click.UsageError("the name of a user must be printable, without a colon")
    return name


def _network(text: str) -> "Network":
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise click.UsageError(f"--trusted-proxy: {error}") from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _serve(app: Any, host: str, port: int, log: Any) -> None:
    server, bound = console_server(app, host, port)
    _host, found, *_ = bound.getsockname()
    address = f"http://{f'[{host}]' if ':' in host else host}:{found}"
    # The server ends by itself then, and hands the signal on.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    log.info("console_started", address=address)
    output.say(f"the console is at {address}; Ctrl-C ends it")
    server.run(sockets=[bound])


def console_server(app: Any, host: str, port: int) -> "tuple[uvicorn.Server, socket.socket]":
    """A server that serves the console at the socket. Raises SetupError if it cannot listen there."""
    import uvicorn

    # Its lines would quote addresses of pages, which hold ids, and tracebacks, which hold values.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # the address of a client is what the check of proxies is about
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=1,  # a tail never ends by itself
    )
    try:
        bound = config.bind_socket()
        bound.listen(config.backlog)  # not only once the loop runs: a client may come as soon as the address is logged
    except (SystemExit, OSError):  # it logs why, and ends the process
        raise SetupError(
            f"cannot listen at {host}, port {port}; another program may have it: give another --port", "machine"
        ) from None
    # Connections inherit it. Without it, a body waits 40 ms for the client to acknowledge the headers.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return uvicorn.Server(config), bound
