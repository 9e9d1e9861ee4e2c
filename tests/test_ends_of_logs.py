"""Where a log ends: strangers leave transactions open, and a topic is given more partitions than it has lanes."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from core_tables.kafka.client_settings import KafkaSettings
from core_tables.kafka.clients import admin_client
from core_tables.kafka.log import LogEnd, log_ends
from core_tables.producer import Ledger, LedgerSettings
from core_tables.schemas.identity import partition_of
from core_tables.schemas.outcomes import Accepted, Refused
from core_tables.schemas.reasons import CANCEL_INVALID_STATE, ContractError, UnavailableError
from core_tables.schemas.wire import encode_event

from .builders import make
from .oracle import check_everything
from .world import World, wait_until

pytestmark = pytest.mark.stack


@contextmanager
def open_transaction(world: World, topic: str, partition: int, value: bytes = b"x") -> Iterator[None]:
    """A program of a stranger that has a transaction open on a partition, and gives it up at the end."""
    servers = {"bootstrap.servers": world.stack.bootstrap_servers}
    stranger = Producer({**servers, "transactional.id": f"{topic}-stranger", "transaction.timeout.ms": 120_000})
    stranger.init_transactions(20)
    stranger.begin_transaction()
    stranger.produce(topic, value, b"acme", partition)
    stranger.flush(20)
    yield
    stranger.abort_transaction(20)


class FirstConnection:
    """A proxy before a broker, for the first connection of a client, which asks for the brokers' addresses there.

    The answer to that is held back until the client puts its next question.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        host, _, port = bootstrap_servers.partition(":")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._broker = socket.create_connection((host, int(port)))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked = [threading.Event() for _ in ("what the broker knows to do", "its brokers", "the next question")]
        threading.Thread(target=self._questions, daemon=True).start()

    def close(self) -> None:
        """Close what is open."""
        for opened in (self._listener, self._broker):
            opened.close()

    def _questions(self) -> None:
        client, _ = self._listener.accept()
        threading.Thread(target=self._answers, args=(client,), daemon=True).start()
        with suppress(OSError):
            unasked = iter(self.asked)
            while question := client.recv(65_536):
                self._broker.sendall(question)
                next(unasked, self.asked[-1]).set()

    def _answers(self, client: socket.socket) -> None:
        with suppress(OSError):
            client.sendall(self._broker.recv(65_536))
            while answer := self._broker.recv(65_536):
                self.asked[-1].wait(30)
                client.sendall(answer)


def status(world: World) -> tuple[list[dict[str, object]], str]:
    """The rows of `status`, and what it says to a person."""
    rows = world.command("status", "--json")
    assert rows.returncode == 0, rows.stderr
    text = " ".join(world.command("status").stdout.decode().split())
    return [json.loads(line) for line in rows.stdout.splitlines()], text


def test_what_is_appended_after_a_strangers_open_transaction_is_acknowledged_waits_and_is_folded(fresh: World) -> None:
    event = make("WORK_ORDER_CREATED")
    partition = partition_of(b"acme", fresh.settings.partitions)
    settings = LedgerSettings(fresh.settings.kafka_servers(), fresh.settings.reader(), fresh.settings.topic)
    with fresh.working():
        ledger = Ledger.connect(settings)
        with open_transaction(fresh, fresh.settings.topic, partition, encode_event(event)):
            receipt = ledger.append(event)
            assert receipt.place() == (partition, 1)
            assert receipt.outcome(0.3) is None
            rows, text = status(fresh)
            (row,) = [row for row in rows if row["lane"] == partition]
            assert (row["log_end"], row["stable_end"], row["lag"]) == (2, 0, 2)
            assert f"lanes {partition}: a program has a transaction open" in text
            assert "everything is folded" not in text
            with pytest.raises(UnavailableError, match="transaction open"):
                ledger.cancel("acme", "order-1", 9, "key", timeout=3)
        assert receipt.outcome(30) == Accepted()
        assert ledger.cancel("acme", "order-1", 9, "key").outcome(30) == Accepted()
        with pytest.raises(ContractError) as refusal:
            ledger.cancel("acme", "no-such-order", 9, "key")
        assert refusal.value.reason_code == CANCEL_INVALID_STATE
        ledger.close()


def test_an_audit_event_behind_a_strangers_open_transaction_is_not_emitted_again(fresh: World) -> None:
    """The stranger's transaction hides ours, which are committed after its start, from every read_committed reader."""
    partition = partition_of(b"acme", fresh.settings.partitions)
    with fresh.working():
        fresh.append(make("WORK_ORDER_CREATED"))
        fresh.drain()
    with open_transaction(fresh, fresh.settings.audit_topic, partition):
        with fresh.working() as first:
            assert fresh.outcome(make("FIELD_SET", idempotency_key="hidden")) == Accepted()
            wait_until(lambda: first.worker.folded_records, "the record to be folded")
        with fresh.working() as second:
            assert fresh.outcome(make("FIELD_SET", idempotency_key="later")) == Accepted()
            reopened = wait_until(lambda: second.log_lines("audit_reopens"), "the audit to see the transaction")
            assert "transaction open on partition" in reopened[0]["cause"]
    with fresh.working():
        fresh.drain()
    check_everything(fresh, 3)


def test_a_topic_with_more_partitions_than_lanes_goes_on_and_what_lies_there_is_named(fresh: World) -> None:
    tenants = [f"grown-{number}" for number in range(24)]
    partitions = fresh.settings.partitions
    with fresh.working() as running:
        for tenant in tenants[:12]:
            assert fresh.outcome(make("WORK_ORDER_CREATED", tenant_id=tenant)) == Accepted()
        admin = fresh.kafka_admin()
        for topic in (fresh.settings.topic, fresh.settings.audit_topic):
            for future in admin.create_partitions([NewPartitions(topic, partitions + 2)]).values():
                future.result()
        ledger = Ledger.connect(
            LedgerSettings(fresh.settings.kafka_servers(), fresh.settings.reader(), fresh.settings.topic)
        )
        for tenant in tenants:
            receipt = ledger.append(make("FIELD_SET", tenant_id=tenant))
            assert receipt.place()[0] == partition_of(tenant.encode(), partitions)
            assert receipt.outcome(30) == Accepted()
        fresh.produce(b"acme", encode_event(make("FIELD_SET")), partitions + 1)
        rows, text = status(fresh)
        assert rows[-1] == {"lane": None, "partition": partitions + 1, "log_end": 1}
        assert f"partition {partitions + 1}: up to 1 records, which belong to no lane" in text
        found = fresh.command("verify", "--topic", "--json")
        assert found.returncode == 11
        assert f"partition {partitions + 1}: up to 1 records" in json.loads(found.stdout)["differences"][0]["what"]
        assert running.log_lines("lane_stopped") == []
        ledger.close()
    with fresh.working() as again:
        wait_until(lambda: again.log_lines("partition_without_lane"), "the group to assign a partition without a lane")
        assert fresh.outcome(make("FIELD_SET", tenant_id=tenants[0])) == Accepted()
    assert again.errors == []
    assert again.log_lines("lane_stopped") == []


def test_the_audit_trail_is_whole_whatever_number_of_partitions_the_settings_name(fresh: World) -> None:
    tenants = [f"trail-{number}" for number in range(24)]
    with fresh.working():
        for tenant in tenants:
            outcome = fresh.outcome(make("FIELD_SET", tenant_id=tenant, expected_last_event_id=7))
            assert isinstance(outcome, Refused)
        fresh.drain()
    shown = fresh.command("audit", "--last", "100", "--json", CORE_TABLES_PARTITIONS="6")
    assert shown.returncode == 0, shown.stderr
    assert {json.loads(line)["tenant_id"] for line in shown.stdout.splitlines()} == set(tenants)


def test_a_new_client_is_told_the_end_of_a_log_also_while_it_leaves_its_first_connection(world: World) -> None:
    """The client repeats a question that it lost with that connection after 3 s."""
    with closing(FirstConnection(world.stack.bootstrap_servers)) as first:
        admin = admin_client(KafkaSettings(first.address))
        assert first.asked[1].wait(30)
        ends = log_ends(admin, world.settings.audit_topic, [0], timeout_s=2.5)
    assert isinstance(ends[0], LogEnd)
