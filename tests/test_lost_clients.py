"""Clients that do not find the brokers any more, although these answer others."""

import logging
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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
from core_tables.producer.receipt import Receipt
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


class Silent:
    """A producer of whose records none is answered, but what `answer` says."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.purged = False

    def __len__(self) -> int:
        return len(self.sent)

    def produce(self, *_: Any, on_delivery: Any, **__: Any) -> None:
        assert not self.purged, "sent with a client that was discarded"
        self.sent.append(on_delivery)

    def answer(self, index: int, error: KafkaError | None = None) -> None:
        self.sent.pop(index)(error, None)

    def purge(self) -> None:
        self.purged = True

    def poll(self, _seconds: float) -> int:
        return 0

    def flush(self, _seconds: float) -> int:
        while self.purged and self.sent:
            self.answer(0, KafkaError(KafkaError._PURGE_QUEUE))
        return len(self.sent)


class Answers:
    """Sends records through `Deliveries`, and notes what becomes of each."""

    def __init__(self) -> None:
        self.opened: list[Silent] = []
        self.now = 0.0
        self.by_name: dict[str, str] = {}
        self.deliveries = Deliveries(self._open, 30.0, lambda: self.now)  # type: ignore[arg-type]

    def send(self, name: str) -> None:
        receipt = Receipt(self.deliveries, make("FIELD_SET"))  # type: ignore[arg-type]

        def answered(error: KafkaError | None, _: Any) -> None:
            self.deliveries.answered(receipt)
            self.by_name[name] = str(error)

        self.deliveries.send(receipt, "t", b"", b"", 0, None, answered)

    def _open(self) -> Silent:
        self.opened.append(Silent())
        return self.opened[-1]


def test_a_client_that_is_not_answered_for_a_record_in_time_is_discarded_with_all_it_has() -> None:
    """Else it writes what it may have written already once more, under another number."""
    answers = Answers()
    answers.send("first")
    answers.now = 29.5
    answers.send("second")
    assert answers.by_name == {}
    answers.now = 30.0
    answers.deliveries.serve(0)
    assert [name for name, error in answers.by_name.items() if "Purged" in error] == ["first", "second"]
    answers.send("third")
    assert [len(client) for client in answers.opened] == [0, 1]
    answers.now = 59.9
    answers.deliveries.serve(0)
    assert "third" not in answers.by_name, "its time begins when it was sent"


def test_a_client_that_is_answered_is_kept_however_long_it_has_records_to_send() -> None:
    answers = Answers()
    for second in range(100):
        answers.now = float(second)
        answers.send(str(second))
        if second >= 20:
            answers.opened[0].answer(0)
    assert len(answers.opened) == 1
    assert len(answers.by_name) == 80


def test_an_answer_that_an_interrupt_kept_from_being_noted_discards_nothing() -> None:
    answers = Answers()
    answers.send("interrupted")
    answers.opened[0].sent.clear()
    answers.now = 31.0
    answers.deliveries.serve(0)
    answers.send("next")
    answers.now = 60.0
    answers.deliveries.serve(0)
    assert (answers.by_name, len(answers.opened)) == ({}, 1)


def test_after_an_append_that_got_no_answer_the_next_one_is_sent_by_a_new_client() -> None:
    """A real producer, of a broker that does not listen."""
    settings = LedgerSettings(f"127.0.0.1:{free_ports()}", kafka={"delivery.timeout.ms": 200})
    opened: list[Any] = []

    def open_producer() -> Any:
        opened.append(ledger_producer(settings.kafka_settings, logging.getLogger("test")))
        return opened[-1]

    ledger = Ledger(settings, open_producer)
    for receipt in (ledger.append(make("FIELD_SET")), ledger.append(make("FIELD_SET"))):
        with pytest.raises(UnavailableError, match="Kafka did not answer this client in time"):
            receipt.event_id(timeout=30)
    assert len(opened) == 1
    ledger.append(make("FIELD_SET"))
    assert len(opened) == 2


def test_threads_that_append_while_clients_are_discarded_all_learn_that_nothing_is_known() -> None:
    ledger = Ledger.connect(LedgerSettings(f"127.0.0.1:{free_ports()}", kafka={"delivery.timeout.ms": 200}))

    def append(_: int) -> list[str]:
        learnt = []
        for receipt in [ledger.append(make("FIELD_SET")) for _ in range(10)]:
            with pytest.raises(UnavailableError) as unknown:
                receipt.place(30)
            learnt.append(unknown.value.message)
        return learnt

    with ThreadPoolExecutor(8) as threads:
        messages = [message for learnt in threads.map(append, range(24)) for message in learnt]
    assert len(messages) == 240
    assert all("Kafka did not answer this client in time" in message for message in messages), set(messages)
    assert ledger.flush(0) == 0


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
