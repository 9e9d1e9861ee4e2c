"""Clients that do not find the brokers any more, although these answer others."""

import logging
import signal
import subprocess
import sys
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from core_tables.kafka import lost_clients
from core_tables.kafka.client_settings import KafkaSettings
from core_tables.kafka.clients import ledger_producer
from core_tables.kafka.lost_clients import LOST_S, RenewedAdmin, WatchedClients
from core_tables.producer import Ledger, LedgerSettings
from core_tables.producer.deliveries import Deliveries
from core_tables.schemas.reasons import FatalClientError, UnavailableError

from .builders import make
from .world import free_ports


class Client:
    """A client that finds the brokers, or does not."""

    def __init__(self, finds: bool) -> None:
        self.finds = finds

    def list_topics(self, topic: str, timeout: float) -> Any:
        assert topic == "ledger"
        assert timeout > 0
        if not self.finds:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return type("Cluster", (), {"brokers": {1: "a broker"}})


def watched(clients: list[Any], new: Any, now: list[float]) -> WatchedClients:
    return WatchedClients(clients, "ledger", lambda: new, clock=lambda: now[0])


def test_a_client_that_is_not_answered_for_long_although_a_new_one_is_ends_the_process() -> None:
    now, lost = [0.0], Client(False)
    clients = watched([Client(True), lost], Client(True), now)
    for at in (0.0, LOST_S - 1):
        now[0] = at
        with pytest.raises(UnavailableError):
            clients.check()
    now[0] = LOST_S
    with pytest.raises(FatalClientError, match="although a new client does"):
        clients.check()


def test_a_client_that_is_answered_again_is_not_lost() -> None:
    now, client = [0.0], Client(False)
    clients = watched([client], Client(True), now)
    with pytest.raises(UnavailableError):
        clients.check()
    client.finds, now[0] = True, LOST_S
    clients.check()
    client.finds = False
    with pytest.raises(UnavailableError):
        clients.check()


def test_while_a_new_client_is_not_answered_either_the_broker_is_waited_for() -> None:
    now = [0.0]
    clients = watched([Client(False)], Client(False), now)
    for at in (0.0, LOST_S, 100 * LOST_S):
        now[0] = at
        with pytest.raises(UnavailableError):
            clients.check()


def test_a_question_that_was_not_answered_is_asked_of_another_client_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[object] = []

    def make_client(_settings: KafkaSettings) -> object:
        made.append(object())
        return made[-1]

    monkeypatch.setattr(lost_clients, "admin_client", make_client)
    admin = RenewedAdmin(KafkaSettings("localhost:1"))

    def unanswered(_client: AdminClient) -> None:
        raise UnavailableError("kafka", "Kafka did not answer")

    assert admin.ask(made.index) == 0
    with pytest.raises(UnavailableError):
        admin.ask(unanswered)
    assert admin.ask(made.index) == 1
    assert admin.ask(made.index) == 1


def test_after_a_record_was_given_up_the_next_one_is_sent_by_a_new_client() -> None:
    """A real producer, of a broker that does not listen: it gives a record up after `delivery.timeout.ms`."""
    opened: list[Any] = []

    def open_producer() -> Any:
        settings = KafkaSettings(f"127.0.0.1:{free_ports()}", extra={"delivery.timeout.ms": 200})
        opened.append(ledger_producer(settings, logging.getLogger("test")))
        return opened[-1]

    ledger = Ledger(LedgerSettings("127.0.0.1:1"), open_producer)
    given_up, waits = ledger.append(make("FIELD_SET")), ledger.append(make("FIELD_SET"))
    for receipt in (given_up, waits):
        with pytest.raises(UnavailableError):
            receipt.event_id(timeout=30)
    assert len(opened) == 1
    ledger.append(make("FIELD_SET"))
    assert len(opened) == 2


def test_a_client_that_still_has_records_to_send_is_kept() -> None:
    producers = [Sending(), Sending()]
    deliveries = Deliveries(iter(producers).__next__)  # type: ignore[arg-type]
    deliveries.give_up()
    deliveries.serve(0)
    assert producers[1].polls == 0
    producers[0].unsent = 0
    deliveries.serve(0)
    assert (producers[0].polls, producers[1].polls) == (1, 1)


class Sending:
    """A producer that has a record to send."""

    def __init__(self) -> None:
        self.unsent = 1
        self.polls = 0

    def flush(self, _seconds: float) -> int:
        return self.unsent

    def poll(self, _seconds: float) -> int:
        self.polls += 1
        return 0


@pytest.mark.parametrize(("who", "ends"), [("ours", 0), ("client", -signal.SIGABRT)])
def test_a_question_about_a_group_that_is_given_up_does_not_end_the_process_as_a_timeout_of_the_client_does(
    who: str, ends: int
) -> None:
    """If `client` ends with 0, the client has been repaired, and `kafka/group.py` need not wait on its own side any more."""
    asker = subprocess.run(
        [sys.executable, "-m", "tests.faults.late_group", who], capture_output=True, text=True, timeout=60, check=False
    )
    assert asker.returncode == ends, asker.stderr
    if ends == 0:  # the other ends while it waits for any of the four
        assert asker.stdout.splitlines() == [*["not answered"] * 4, "refused"]
