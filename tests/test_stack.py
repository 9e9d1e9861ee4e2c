"""The local stack: started once, found again, repaired after a crash, and stopped without a trace."""

import hashlib
import os
import re
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
import requests
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from core_tables.deploy import jars, stack
from core_tables.deploy.parts import PartName
from core_tables.deploy.stack import StackAddresses
from core_tables.schemas.reasons import SetupError

from .certificates import Authority
from .leftovers import note

TOPIC = "kept"
PARTS: tuple[PartName, ...] = ("postgres", "redis", "kafka")


def quiet(_line: str) -> None:
    """Progress that nobody reads."""


def eventually(condition: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    """Poll a condition to a deadline."""
    deadline = time.monotonic() + timeout_s
    tick = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            return False
        tick.wait(0.05)
    return True


def pids(folder: Path) -> dict[str, int | None]:
    return {part.name: part.pid for part in stack.status(folder)}


def pid_of(folder: Path, name: PartName) -> int:
    pid = pids(folder)[name]
    assert pid is not None
    return pid


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process that works in the folder, or where Postgres had to go; a zombie of ours counts as one."""
    homes = (folder, stack.postgres_home(folder))
    found = []
    for process in psutil.process_iter(["cwd", "status", "ppid"]):
        cwd = process.info["cwd"]
        ours = process.info["status"] == psutil.STATUS_ZOMBIE and process.info["ppid"] == os.getpid()
        if ours or (cwd and any(Path(cwd).is_relative_to(home) for home in homes)):
            found.append(process)
    return found


def topics(addresses: StackAddresses) -> set[str]:
    return set(AdminClient({"bootstrap.servers": addresses.bootstrap_servers}).list_topics(timeout=10).topics)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One stack for all tests here, with something in it to lose."""
    made = note(tmp_path_factory.mktemp("stack-of-its-own").resolve())
    try:
        addresses = stack.up(made, quiet)
        with psycopg.connect(addresses.postgres_dsn) as connection:
            connection.execute("create table kept as select 42 as answer")
        admin = AdminClient({"bootstrap.servers": addresses.bootstrap_servers})
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(30)
        yield made
    finally:
        stack.down(made, quiet, wipe=True)


@pytest.fixture
def addresses(folder: Path) -> StackAddresses:
    """The stack, all of it running: a test may leave it half dead."""
    return stack.up(folder, quiet)


def test_all_three_parts_answer_where_the_stack_says(addresses: StackAddresses) -> None:
    assert TOPIC in topics(addresses)
    assert redis.Redis.from_url(addresses.redis_url).ping()
    with psycopg.connect(addresses.postgres_dsn) as connection:
        settings = connection.execute(
            "select current_setting('fsync'), current_setting('max_connections'), current_setting('max_wal_size')"
        ).fetchone()
        assert settings == ("on", "200", "4GB")
        assert connection.info.dbname == "core_tables"
        assert connection.info.server_version >= 180000


def test_other_users_of_the_machine_are_kept_out_by_a_password_that_only_its_owner_reads(
    folder: Path, addresses: StackAddresses
) -> None:
    file = folder / "password"
    secret = file.read_text("ascii")
    assert file.stat().st_mode & 0o077 == 0
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(addresses.postgres_dsn.replace(f":{secret}", ""), passfile="none")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(addresses.redis_url.replace(secret, "")).ping()
    assert secret not in repr(addresses)
    for process in processes_of(folder):
        assert not [argument for argument in process.cmdline() if secret in argument]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")
def test_postgres_run_by_root_keeps_none_of_its_groups(folder: Path, addresses: StackAddresses) -> None:
    assert addresses.postgres_dsn
    (server,) = [part for part in stack.status(folder) if part.name == "postgres"]
    status = Path(f"/proc/{server.pid}/status").read_text("ascii")
    (groups,) = re.findall(r"^Groups:(.*)$", status, re.MULTILINE)
    (gids,) = re.findall(r"^Gid:(.*)$", status, re.MULTILINE)
    assert groups.split() == []
    assert "0" not in gids.split()


def test_a_second_up_finds_the_same_processes(folder: Path, addresses: StackAddresses) -> None:
    before = pids(folder)
    assert stack.up(folder, quiet) == addresses
    assert pids(folder) == before


def test_two_ups_at_once_start_one_stack(folder: Path, addresses: StackAddresses) -> None:
    stack.stop_part(folder, "redis", with_signal=signal.SIGKILL)
    found: list[StackAddresses] = []
    threads = [threading.Thread(target=lambda: found.append(stack.up(folder, quiet))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [addresses, addresses]
    assert len([it for it in processes_of(folder) if it.name() == "valkey-server"]) == 1


@pytest.mark.parametrize("name", PARTS)
def test_a_part_killed_behind_our_back_is_restarted_alone_with_its_data(
    folder: Path, addresses: StackAddresses, name: PartName
) -> None:
    before = pids(folder)
    os.kill(pid_of(folder, name), signal.SIGKILL)
    assert stack.up(folder, quiet) == addresses
    after = pids(folder)
    assert {part for part in PARTS if after[part] != before[part]} == {name}
    assert TOPIC in topics(addresses)
    with psycopg.connect(addresses.postgres_dsn) as connection:
        assert connection.execute("select answer from kept").fetchone() == (42,)


def test_a_part_can_be_killed_and_started_by_name(folder: Path, addresses: StackAddresses) -> None:
    assert stack.stop_part(folder, "postgres", with_signal=signal.SIGKILL)
    assert not stack.stop_part(folder, "postgres")
    assert pids(folder)["postgres"] is None
    assert stack.addresses(folder) is None
    stack.start_part(folder, "postgres")
    assert stack.addresses(folder) == addresses
    with psycopg.connect(addresses.postgres_dsn) as connection:
        assert connection.execute("select answer from kept").fetchone() == (42,)


@pytest.mark.usefixtures("addresses")
def test_a_stranger_on_a_port_of_ours_is_not_taken_for_our_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = next(part.address for part in stack.status(folder) if part.name == "redis")
    assert address is not None
    port = int(address.rpartition(":")[2])
    stack.stop_part(folder, "redis")
    monkeypatch.setattr(stack, "_PORT_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(SetupError, match=f"redis: its port {port} is used"):
        stack.up(folder, quiet)
    assert {part.name: part.running for part in stack.status(folder)} == {
        "postgres": True,
        "redis": False,
        "kafka": True,
    }


def test_a_part_that_cannot_start_names_its_log(folder: Path, addresses: StackAddresses) -> None:
    stack.stop_part(folder, "postgres")
    home = stack.postgres_home(folder) / "data"
    (home / "postgresql.auto.conf").rename(home / "kept")
    (home / "postgresql.auto.conf").write_text("no_such_setting = 1\n", "utf-8")
    try:
        with pytest.raises(SetupError, match=r"postgres ended at once.*postgres\.log"):
            stack.start_part(folder, "postgres")
    finally:
        (home / "kept").replace(home / "postgresql.auto.conf")
    assert stack.up(folder, quiet) == addresses


def test_down_after_half_of_it_died_leaves_no_process_and_keeps_the_data(
    folder: Path, addresses: StackAddresses
) -> None:
    assert {it.name() for it in processes_of(folder)} == {"java", "postgres", "valkey-server"}
    os.kill(pid_of(folder, "postgres"), signal.SIGKILL)
    os.kill(pid_of(folder, "redis"), signal.SIGKILL)
    stack.down(folder, quiet)
    assert eventually(lambda: processes_of(folder) == []), processes_of(folder)
    assert not any(part.running for part in stack.status(folder))
    stack.down(folder, quiet)
    assert stack.up(folder, quiet) == addresses
    assert TOPIC in topics(addresses)


def test_down_with_wipe_leaves_nothing(tmp_path: Path) -> None:
    stack.start_part(tmp_path, "postgres")
    home = stack.postgres_home(tmp_path)
    assert (home / "data").exists()
    stack.down(tmp_path, quiet, wipe=True)
    assert not home.exists()
    assert {entry.name for entry in tmp_path.iterdir()} <= {"lock"}


def test_down_ends_a_part_that_is_not_on_record(tmp_path: Path) -> None:
    """As after an `up` that was killed between the start of the part and the note of it."""
    stack.start_part(tmp_path, "redis")
    (tmp_path / "stack.json").unlink()
    stack.down(tmp_path, quiet)
    assert eventually(lambda: processes_of(tmp_path) == []), processes_of(tmp_path)


def test_down_where_nothing_ever_ran_makes_nothing(tmp_path: Path) -> None:
    stack.down(tmp_path / "never", quiet, wipe=True)
    assert not (tmp_path / "never").exists()


def test_jars_that_are_there_are_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jar = tmp_path / "core-tables" / "maven" / "a.jar"
    jar.parent.mkdir(parents=True)
    jar.touch()
    note = tmp_path / "core-tables" / "some-1.0.jars"
    note.write_text(str(jar), "utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jars.ensure_jars("some-1.0", ["no.such:jar:1"], pytest.fail) == note


def test_a_jar_that_the_list_does_not_have_is_refused_and_removed(tmp_path: Path) -> None:
    jar = tmp_path / "org" / "a.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"what was listed")
    listed = f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  org/a.jar\n"
    jars.check_jars(tmp_path, [jar], listed)
    for content, known in ((b"something else", listed), (b"what was listed", "")):
        jar.write_bytes(content)
        with pytest.raises(SetupError, match=r"the jar org/a\.jar is not"):
            jars.check_jars(tmp_path, [jar], known)
        assert not jar.exists()


def test_a_download_that_fails_leaves_nothing_that_passes_for_a_jar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> requests.Response:
        raise requests.ConnectionError("cut")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(requests.Session, "get", refuse)
    monkeypatch.setattr(jars, "_PAUSE_S", 0.0)
    with pytest.raises(SetupError, match="could not be downloaded"):
        jars.ensure_jars("some-1.0", ["org.slf4j:slf4j-simple:1.7.36"], quiet)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_download_trusts_the_authorities_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a company's proxy has a certificate of the company."""

    class Jars(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"jar")

        def log_message(self, *_: object) -> None:
            pass

    authority = Authority(tmp_path)
    own = authority.issue("proxy", "/CN=127.0.0.1")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Jars) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own.certificate, own.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"https://127.0.0.1:{server.server_port}/a.jar"
            with pytest.raises(requests.exceptions.SSLError):
                jars.new_session().get(address, timeout=10)
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))  # where OpenSSL finds those of the system
            assert jars.new_session().get(address, timeout=10).content == b"jar"
        finally:
            server.shutdown()
