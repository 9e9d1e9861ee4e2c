"""A real PgBouncer in transaction mode, in front of a Postgres with or without TLS."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from core_tables.deploy.process import free_port

from .certificates import Authority
from .leftovers import note
from .world import wait_until

MISSING: Final = (
    "PgBouncer is not installed here (`apt-get install pgbouncer`), so reads through a pooler are not tested"
)
SETTINGS: Final = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = {auth}
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 2
"""
TLS: Final = """
client_tls_sslmode = require
client_tls_cert_file = {folder}/pooler.pem
client_tls_key_file = {folder}/pooler.key
server_tls_sslmode = verify-full
server_tls_ca_file = {folder}/authority.pem
"""


@contextmanager
def running_pooler(dsn: str, authority: Authority | None = None) -> Iterator[str]:
    """A DSN that leads through a pooler with two sessions for everybody. With an authority, it speaks TLS on both sides."""
    place, port = conninfo_to_dict(dsn), free_port()
    folder = note(Path(tempfile.mkdtemp(prefix="core-tables-pooler-")))
    settings = SETTINGS + (TLS if authority else "")
    auth = "scram-sha-256" if authority else "plain"
    written = settings.format(host=place["host"], port=place["port"], listen=port, folder=folder, auth=auth)
    (folder / "settings.ini").write_text(written, "utf-8")
    (folder / "users").write_text(f'"{place["user"]}" "{place.get("password") or ""}"\n', "utf-8")
    if authority is not None:
        own = authority.issue("pooler", "/CN=127.0.0.1")
        for file, name in (
            (own.certificate, "pooler.pem"),
            (own.key, "pooler.key"),
            (authority.certificate, "authority.pem"),
        ):
            shutil.copy(file, folder / name)
    command = ["pgbouncer", "-q", str(folder / "settings.ini")]
    if os.geteuid() == 0:  # as which it does not run
        for path in (folder, *folder.iterdir()):
            os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
        command = [*command, "-u", "nobody"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    through = make_conninfo(dsn, host="127.0.0.1", port=str(port))

    def answers() -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(through):
            return True
        return False

    try:
        wait_until(answers, "the pooler to answer", 20)
        yield through
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)
