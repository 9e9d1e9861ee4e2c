"""Encrypted servers where each program has a login of its own with the rights that `grants` prints, and no others."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from psycopg.conninfo import make_conninfo

from core_tables.cli import output
from core_tables.cli.main import main
from core_tables.kafka.reported import reported
from core_tables.kafka.rights import rights_of
from core_tables.producer import Ledger, LedgerSettings, Receipt
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.json_form import event_to_json
from core_tables.schemas.outcomes import Accepted
from core_tables.settings.environment import Settings

from . import encrypted, poolers, secured
from .builders import START, make
from .certificates import Authority, Certificate
from .encrypted import EncryptedPostgres, encrypted_postgres, encrypted_redis
from .metric_tables import samples
from .secured import SecuredBroker
from .world import free_ports, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group(secured.GROUP)]

ON_KAFKA = ("producer", "worker", "reader", "operator", "administrator", "keda")
PAGE = Path(__file__).parent.parent / "docs" / "SECURING.md"
STEPS = re.findall(r"^core-tables (.+?)(?: \||$)", PAGE.read_text("utf-8"), re.MULTILINE)
WITH_PASSWORD, WITH_CERTIFICATE = ("worker", "reader"), ("operator", "scheduler")


def login(program: str) -> str:
    return f"core_tables_{program}"


def password(program: str) -> str:
    return f"that-of-the-{program}"


@dataclass(frozen=True)
class Services:
    """The three servers, and a folder with the secrets of each program, one file each."""

    broker: SecuredBroker
    postgres: EncryptedPostgres
    redis: str
    folder: Path

    def write_kafka(self, program: str, settings: dict[str, str]) -> None:
        self._file(program, "kafka").write_text(json.dumps(settings), "utf-8")

    def write_dsn(self, program: str, **more: str) -> None:
        self._file(program, "dsn").write_text(self.postgres.dsn(login(program), **more), "utf-8")

    def write_redis(self, program: str, given: str, **more: str) -> None:
        place = urlsplit(self.redis)
        query = "&".join([place.query, *(f"{name}={value}" for name, value in more.items())])
        address = place._replace(netloc=f"{login(program)}:{given}@{place.netloc.rpartition('@')[2]}", query=query)
        self._file(program, "redis").write_text(address.geturl(), "utf-8")

    def cache(self) -> Any:
        """A client of Redis that may do everything."""
        return redis.Redis.from_url(self.redis)

    def settings(self, *programs: str) -> dict[str, str]:
        """The settings of a process that has the logins of some programs; on Kafka and Redis, that of the first that has one."""
        found = {"bootstrap_servers": self.broker.scram, "partitions": "3", "redis_url": "none"}
        for program in reversed(programs):
            if self._file(program, "kafka").exists():
                found["kafka_file"] = str(self._file(program, "kafka"))
            if self._file(program, "redis").exists():
                found.pop("redis_url", None)
                found["redis_url_file"] = str(self._file(program, "redis"))
            name = "postgres" if program == "administrator" else program
            if self._file(program, "dsn").exists():
                found[f"{name}_dsn_file"] = str(self._file(program, "dsn"))
        return found

    def run(self, programs: str, *words: str, stdin: str = "", **more: str) -> Result:
        """Run a command with the logins of some programs, and `more` settings, to its end."""
        settings = {**self.settings(*programs.split()), **more}
        environment = {f"CORE_TABLES_{name.upper()}": value for name, value in settings.items()}
        return CliRunner(env=environment).invoke(main, words, input=stdin, prog_name="core-tables")

    def _file(self, program: str, server: str) -> Path:
        return self.folder / f"{program}.{server}"


@pytest.fixture(scope="module")
def services(
    broker: SecuredBroker, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Services]:
    """The servers as `grants` and `init` set them up."""
    folder = tmp_path_factory.mktemp("secrets")
    with ExitStack() as open_:
        postgres = open_.enter_context(encrypted_postgres(broker.authority))
        if shutil.which("redis-server") is not None:
            cache = open_.enter_context(encrypted_redis(broker.authority))
        else:  # that of the local stack, without TLS
            cache = request.getfixturevalue("stack").redis_url
        made = Services(broker, postgres, cache, folder)
        set_up(made)
        yield made


def set_up(services: Services) -> None:
    """What docs/SECURING.md says, with its commands."""
    on_kafka, first, init, last, on_redis = map(str.split, STEPS)
    for program in ON_KAFKA:
        services.broker.set_password(login(program), password(program))
        services.write_kafka(program, services.broker.with_scram(login(program), password(program)))
    services.broker.run_grants(services.run("", *on_kafka).stdout)

    postgres, administrator = services.postgres, login("administrator")
    postgres.run(services.run("", *first).stdout, encrypted.SUPERUSER, encrypted.PASSWORD, "postgres")
    postgres.execute(f"alter role {administrator} password '{password('administrator')}'")
    services.write_dsn("administrator", password=password("administrator"))
    done = services.run("administrator", *init)
    assert done.exit_code == 0, done.output
    postgres.run(services.run("", *last).stdout, administrator, password("administrator"))
    for program in WITH_PASSWORD:
        postgres.run(
            f"alter role {login(program)} password '{password(program)}'", administrator, password("administrator")
        )
        services.write_dsn(program, password=password(program))
    for program in WITH_CERTIFICATE:
        own = services.broker.authority.issue(f"{program}-of-postgres", f"/CN={login(program)}")
        own.key.chmod(0o600)
        services.write_dsn(program, sslcert=str(own.certificate), sslkey=str(own.key))

    with closing(services.cache()) as cache:
        for line in services.run("", *on_redis).stdout.splitlines():
            cache.execute_command(*line.split())
        for program in ("worker", "filler", "operator"):
            cache.execute_command("ACL", "SETUSER", login(program), f">{password(program)}")
            services.write_redis(program, password(program))


@dataclass
class Worker:
    """A worker as an operator starts it, and its log."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def lines(self, event: str) -> list[dict[str, Any]]:
        named = (line for line in self.log.read_text("utf-8").splitlines() if f'"event": "{event}"' in line)
        return [json.loads(line) for line in named]


@contextmanager
def working(services: Services, folder: Path, **settings: str) -> Iterator[Worker]:
    log = folder / "worker.log"
    environment = {**services.settings("worker"), **settings}
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [sys.executable, "-m", "core_tables.cli.main", "worker"],
            env={**os.environ, **{f"CORE_TABLES_{name.upper()}": text for name, text in environment.items()}},
            stdout=lines,
            stderr=lines,
        )
        try:
            yield Worker(process, log)
            assert process.poll() is None, log.read_text("utf-8")
        finally:
            process.terminate()
            process.wait(60)


def line_of(event: LedgerEvent) -> str:
    return json.dumps(event_to_json(event)) + "\n"


def test_each_program_does_its_work_with_the_rights_that_grants_prints(services: Services, tmp_path: Path) -> None:
    with working(services, tmp_path) as worker:
        created = line_of(make("WORK_ORDER_CREATED", idempotency_key="a"))
        refused = line_of(make("LEASE_RELEASED"))
        appended = services.run("producer reader", "append", "-", "--wait", stdin=created + refused)
        assert "1 accepted, 0 replayed, 1 refused" in appended.output, appended.output + worker.log.read_text("utf-8")
        pending = services.run(
            "filler reader", "pending", "--tenant", "acme", "--requester", "ada", "--now", str(START)
        )
        wait_until(
            lambda: (
                "audited" in services.run("operator", "status", "--json").stdout
                and services.run("reader", "audit", "--json").stdout.count("\n") == 2
            ),
            "both outcomes in the audit topic",
        )
        due = services.run("scheduler", "due-tenants")
        status = services.run("operator", "status")
    assert pending.exit_code == due.exit_code == status.exit_code == 0, pending.output + due.output + status.output
    assert "order-1" in pending.stdout
    assert f"-{worker.process.pid}" in status.stdout
    assert worker.lines("lane_stopped") == []
    assert "permission" not in str(worker.lines("cache_failed"))
    for words in (["verify"], ["verify", "--topic"], ["refused", "list"], ["doctor"]):
        done = services.run("operator", *words)
        assert done.exit_code == 0, done.output
    assert re.search(r"^ok +rights on Kafka +those of the operator", done.output, re.MULTILINE)
    assert re.search(r"^(ok +cache +Redis|skipped +cache)", done.output, re.MULTILINE)
    listed = services.run("operator", "refused", "list", "--tenant", "acme", "--json").stdout
    shown = services.run("operator", "refused", "show", str(json.loads(listed)["event_id"]))
    assert shown.exit_code == 0, shown.output


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason=poolers.MISSING)
def test_a_reader_reads_and_awaits_outcomes_through_a_pooler_that_speaks_tls_on_both_sides(
    services: Services, tmp_path: Path
) -> None:
    direct = services.postgres.dsn(login("reader"), password=password("reader"))
    event = make("WORK_ORDER_CREATED", work_order_id="through-a-pooler")
    with poolers.running_pooler(direct, services.broker.authority) as dsn, working(services, tmp_path):
        pooled = {"reader_dsn": dsn, "reader_pooled": "true"}
        appended = services.run("producer", "append", "-", "--wait", stdin=line_of(event), **pooled)
        assert "1 accepted" in appended.output, appended.output
        found = services.run("", "get", "--tenant", "acme", "through-a-pooler", **pooled)
        assert found.exit_code == 0, found.output
        with pytest.raises(psycopg.OperationalError, match="SSL required"):
            psycopg.connect(make_conninfo(dsn, sslmode="disable"))


def test_an_autoscaler_sees_the_lag_and_reads_nothing(services: Services) -> None:
    topic, group = "core-tables.ledger.v1", "core-tables"
    user: dict[str, Any] = {
        "bootstrap.servers": services.broker.scram,
        **services.broker.with_scram(login("keda"), password("keda")),
    }
    admin = AdminClient(user)
    described = admin.describe_topics(TopicCollection([topic]))[topic].result()
    lanes = [TopicPartition(topic, partition.id) for partition in described.partitions]
    latest: Any = OffsetSpec
    ends = admin.list_offsets(dict.fromkeys(lanes, latest.latest()))
    assert all(end.result().offset >= 0 for end in ends.values())
    asked = ConsumerGroupTopicPartitions(group, lanes)
    committed = admin.list_consumer_group_offsets([asked])[group].result().topic_partitions
    assert len(committed) == len(lanes)
    with closing(Consumer({**user, "group.id": group})) as consumer:
        consumer.assign([TopicPartition(topic, 0, 0)])
        answer = wait_until(lambda: consumer.poll(1), "the broker to refuse a read")
    assert answer.error().code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


class Missed(NamedTuple):
    """A right, the command that cannot do without it, and how that ends."""

    right: str
    program: str
    command: str
    code: int
    words: str


UNSEEN = "check its name in the settings, and that this user has DESCRIBE on it"
MISSED = [
    Missed("READ on the topic core-tables.audit.v1", "reader", "audit", output.EXIT_TOPIC, UNSEEN),
    Missed(
        "READ on the consumer group core-tables.audit-tail",
        "reader",
        "audit",
        output.EXIT_PERMISSION,
        "on the consumer group core-tables.audit-tail",
    ),
    Missed("READ on the topic core-tables.ledger.v1", "operator", "verify --topic", output.EXIT_TOPIC, UNSEEN),
    *(
        Missed(right, "administrator", "init", output.EXIT_PERMISSION, right)
        for right in (
            "DESCRIBE on the topic core-tables.ledger.v1",
            "DESCRIBE_CONFIGS on the topic core-tables.audit.v1",
        )
    ),
]


@pytest.mark.parametrize("missed", MISSED, ids=lambda missed: missed.right)
def test_a_right_on_kafka_that_is_taken_away_is_missed(services: Services, missed: Missed) -> None:
    services.broker.revoke(login(missed.program), missed.right)
    try:
        done = services.run(missed.program, *missed.command.split())
    finally:
        services.broker.grant(login(missed.program), missed.right)
    assert (done.exit_code, missed.words in done.output) == (missed.code, True), done.output


def test_who_has_which_lane_is_not_shown_without_the_right_to_describe_the_group(services: Services) -> None:
    right = "DESCRIBE on the consumer group core-tables"
    services.broker.revoke(login("operator"), right)
    try:
        done = services.run("operator", "status")
    finally:
        services.broker.grant(login("operator"), right)
    assert "this user may lack DESCRIBE on the group core-tables" in done.output


def test_the_administrator_creates_no_topics_but_those_that_were_granted(services: Services) -> None:
    done = services.run("administrator", "init", topic="others")
    assert done.exit_code == output.EXIT_PERMISSION
    assert "DESCRIBE on the topic others" in done.output


@pytest.mark.parametrize(
    ("user", "how", "message"),
    [
        ("core_tables_worker", {"password": "wrong"}, "password authentication failed"),
        ("core_tables_worker", {"password": password("worker"), "sslmode": "disable"}, "no encryption"),
        ("core_tables_operator", {"password": password("operator")}, "requires a valid client certificate"),
        ("stranger", {"password": "stranger"}, 'permission denied for database "core_tables"'),
    ],
)
def test_postgres_lets_nobody_else_in(services: Services, user: str, how: dict[str, str], message: str) -> None:
    services.postgres.execute("drop role if exists stranger; create role stranger login password 'stranger'")
    with pytest.raises(psycopg.OperationalError, match=message):
        psycopg.connect(services.postgres.dsn(user, **how))


def test_a_server_whose_certificate_is_of_another_authority_is_not_talked_to(
    services: Services, tmp_path: Path
) -> None:
    other = Authority(tmp_path).certificate
    dsn = make_conninfo(services.postgres.dsn(login("worker"), password=password("worker")), sslrootcert=str(other))
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(dsn)


@contextmanager
def appending(services: Services) -> Iterator[list[Receipt]]:
    """A program that appends all the time, as long as the block runs. In the end, every append must have been accepted."""
    settings = Settings.model_validate(services.settings("producer", "reader"))
    receipts: list[Receipt] = []
    done = threading.Event()
    with closing(Ledger.connect(LedgerSettings.of(settings))) as ledger:

        def append() -> None:
            while not done.wait(0.01):
                event = make("FIELD_SET", tenant_id=f"load-{len(receipts) % 7}", work_order_id=f"{len(receipts)}")
                receipts.append(ledger.append(event))

        thread = threading.Thread(target=append)
        thread.start()
        try:
            yield receipts
        finally:
            done.set()
            thread.join()
        assert receipts
        assert set(ledger.outcomes(receipts, 60)) == {Accepted()}


def accepted_from_now_on(receipts: Sequence[Receipt]) -> None:
    """Wait for the outcome of an append that is still to come."""
    count = len(receipts)
    wait_until(lambda: len(receipts) > count, "another append")
    assert receipts[count].outcome(60) == Accepted()


def test_certificates_of_kafka_are_replaced_under_load_without_a_restart_and_never_by_one_that_has_ended(
    services: Services, tmp_path: Path
) -> None:
    broker, topics = services.broker, ("core-tables.ledger.v1", "core-tables.audit.v1", "core-tables")
    rights = [str(right) for right in rights_of("worker", *topics)]
    own, new = (broker.authority.issue(name, f"/OU={name}/CN=worker") for name in ("first", "second"))
    ended = broker.authority.issue_expired("ended", "/CN=worker")
    for name in ("first", "second"):
        broker.grant(f"CN=worker,OU={name}", *rights)
    services.write_kafka("worker", broker.with_certificate(own))
    listens = f"127.0.0.1:{free_ports()}"
    with (
        working(services, tmp_path, bootstrap_servers=broker.mutual, http=listens) as worker,
        appending(services) as receipts,
    ):
        accepted_from_now_on(receipts)
        own.replace_with(ended)
        wait_until(lambda: "ended at" in str(worker.lines("certificates_unusable")), "the worker to look at the files")
        accepted_from_now_on(receipts)
        assert len(worker.lines("worker_started")) == 1, "the clients that work were kept"
        with urllib.request.urlopen(f"http://{listens}/metrics", timeout=10) as answer:
            shown = samples(answer.read().decode(), "core_tables_certificate_not_after_timestamp_seconds")
        assert {each.value < time.time() for each in shown if each.labels["kind"] == "client"} == {True}
        own.replace_with(new)
        wait_until(lambda: len(worker.lines("worker_started")) == 2, "the worker to make new clients")
        broker.revoke("CN=worker,OU=first", *rights)
        accepted_from_now_on(receipts)
    assert len(worker.lines("certificates_changed")) == 1
    assert worker.lines("lane_stopped") == []
    services.write_kafka("worker", broker.with_scram(login("worker"), password("worker")))


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="the Redis of the stack does not speak TLS")
def test_certificates_that_have_ended_are_named_and_renewed_ones_are_taken_without_a_restart(
    services: Services, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    broker, given = services.broker, password("worker")
    # The tests after this one log in with passwords.
    request.addfinalizer(lambda: services.write_kafka("worker", broker.with_scram(login("worker"), given)))
    request.addfinalizer(lambda: services.write_dsn("worker", password=given))
    request.addfinalizer(lambda: services.write_redis("worker", given))
    topics = ("core-tables.ledger.v1", "core-tables.audit.v1", "core-tables")
    broker.grant("CN=renewed", *(str(right) for right in rights_of("worker", *topics)))
    servers = ("kafka", "postgres", "redis")
    own, new = ({each: broker.authority.issue(f"{name}-{each}", "/CN=renewed") for each in servers} for name in "ab")
    ended = {each: broker.authority.issue_expired(f"ended-{each}", "/CN=renewed") for each in servers}
    for certificates in (own, new, ended):
        certificates["postgres"].key.chmod(0o600)
    services.write_kafka("worker", broker.with_certificate(own["kafka"]))
    postgres, on_redis = own["postgres"], own["redis"]
    services.write_dsn("worker", password=given, sslcert=str(postgres.certificate), sslkey=str(postgres.key))
    services.write_redis("worker", given, ssl_certfile=str(on_redis.certificate), ssl_keyfile=str(on_redis.key))
    with (
        working(services, tmp_path, bootstrap_servers=broker.mutual) as worker,
        appending(services) as receipts,
        closing(services.cache()) as cache,
    ):
        accepted_from_now_on(receipts)
        for each in ("postgres", "redis"):
            own[each].replace_with(ended[each])
        cache.execute_command("CLIENT", "KILL", "USER", login("worker"))
        wait_until(lambda: "expired" in str(worker.lines("cache_failed")), "Redis to refuse the certificate")
        sessions = f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{login('worker')}'"
        services.postgres.execute(sessions)
        wait_until(lambda: "expired" in str(worker.lines("lane_reopens")), "Postgres to refuse the certificate")
        for each in ("postgres", "redis"):
            own[each].replace_with(new[each])
        wait_until(lambda: worker.lines("cache_answers"), "the cache to answer again")
        accepted_from_now_on(receipts)
    own["kafka"].replace_with(ended["kafka"])
    done = services.run("worker", "doctor", "--json", bootstrap_servers=broker.mutual)
    assert done.exit_code == output.EXIT_MACHINE
    found = {row["check"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert f"{own['kafka'].certificate} (Kafka) ended on " in found["certificates"]["what"]
    assert "certificate unknown" in found["Kafka"]["what"], "Java's alert to a client says no more than this"
    assert len(worker.lines("worker_started")) == 1
    assert worker.lines("lane_stopped") == []


@contextmanager
def presenting(services: Services, admin: Any, cache: Any) -> Iterator[Callable[[Certificate], None]]:
    """A function that lets Postgres and Redis show another certificate; after the block they show their usual one again."""
    folder, names = services.postgres.folder, ("tls-key-file", "tls-cert-file")
    files = (folder / "server.key", folder / "server.pem")
    usual, usual_of_redis = [path.read_bytes() for path in files], cache.config_get(*names)

    def show(contents: Sequence[bytes], of_redis: Sequence[str]) -> None:
        for path, content in zip(files, contents, strict=True):
            path.write_bytes(content)
        admin.execute("select pg_reload_conf()")
        cache.execute_command("CONFIG", "SET", names[0], of_redis[0], names[1], of_redis[1])

    try:
        yield lambda own: show(
            (own.key.read_bytes(), own.certificate.read_bytes()), (str(own.key), str(own.certificate))
        )
    finally:
        show(usual, [usual_of_redis[name] for name in names])


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="the Redis of the stack does not speak TLS")
def test_the_authority_of_postgres_and_redis_is_replaced_under_load_without_a_restart(
    services: Services, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In the three steps of docs/SECURING.md; each connection reads the authorities again."""
    old, new, user = services.broker.authority, Authority(tmp_path), login("worker")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(old.certificate.read_bytes())
    for program in WITH_PASSWORD:
        request.addfinalizer(partial(services.write_dsn, program, password=password(program)))
        services.write_dsn(program, password=password(program), sslrootcert=str(trusted))
    request.addfinalizer(partial(services.write_redis, "worker", password("worker")))
    address = services.redis.replace(str(old.certificate), str(trusted))
    replace(services, redis=address).write_redis("worker", password("worker"))
    superuser = services.postgres.dsn(encrypted.SUPERUSER, password=encrypted.PASSWORD, dbname="postgres")
    with (
        psycopg.connect(superuser, autocommit=True) as admin,
        closing(services.cache()) as cache,
        presenting(services, admin, cache) as show,
        working(services, tmp_path) as worker,
        appending(services) as receipts,
    ):

        def connected_again() -> None:
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", [user])
            cache.execute_command("CLIENT", "KILL", "USER", user)
            accepted_from_now_on(receipts)
            wait_until(lambda: user in {client["user"] for client in cache.client_list()}, "a connection to Redis")

        accepted_from_now_on(receipts)
        trusted.write_bytes(old.certificate.read_bytes() + new.certificate.read_bytes())
        show(new.issue("server-of-both", "/CN=127.0.0.1"))
        connected_again()
        trusted.write_bytes(new.certificate.read_bytes())
        connected_again()
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            psycopg.connect(superuser)
    assert len(worker.lines("worker_started")) == 1
    assert worker.lines("lane_stopped") == []
    assert "certificate" not in str(worker.lines("cache_failed"))


def test_passwords_are_replaced_under_load_without_a_restart(services: Services, tmp_path: Path) -> None:
    with working(services, tmp_path) as worker, appending(services) as receipts, closing(services.cache()) as cache:
        accepted_from_now_on(receipts)
        cache.execute_command("ACL", "SETUSER", login("worker"), "resetpass", ">second")
        cache.execute_command("CLIENT", "KILL", "USER", login("worker"))
        wait_until(lambda: worker.lines("cache_failed"), "Redis to refuse the old password")
        services.write_redis("worker", "second")
        wait_until(lambda: worker.lines("cache_answers"), "the cache to answer again")

        services.postgres.execute(f"alter role {login('worker')} password 'second'")
        ended = f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{login('worker')}'"
        services.postgres.execute(ended)
        wait_until(lambda: "password" in str(worker.lines("lane_reopens")), "Postgres to refuse the old password")
        services.write_dsn("worker", password="second")
        accepted_from_now_on(receipts)

        for program in ("worker", "producer"):
            services.broker.set_password(login(program), "second")
        wait_until(refused_login, "Kafka to refuse the producer's old password")
        wait_until(lambda: "Authentication failed" in str(worker.lines("kafka_error")), "Kafka to refuse the worker's")
        for program in ("worker", "producer"):
            services.write_kafka(program, services.broker.with_scram(login(program), "second"))
        accepted_from_now_on(receipts)
    assert len(worker.lines("worker_started")) == 1
    assert worker.lines("lane_stopped") == []
    for words in (["verify"], ["verify", "--topic"]):
        done = services.run("operator", *words)
        assert done.exit_code == 0, done.output


def refused_login() -> bool:
    """Whether a Kafka client of this process was refused."""
    report = reported()
    return report is not None and "Authentication failed" in report.str()
