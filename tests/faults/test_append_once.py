"""Records whose answers are lost while an earlier one gets none in time."""

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from core_tables.kafka.clients import LOG_END_GROUP, admin_client, log_end_consumer
from core_tables.kafka.log import TopicReader
from core_tables.kafka.topics import create_topics
from core_tables.producer import Ledger, LedgerSettings
from core_tables.schemas.reasons import UnavailableError
from core_tables.schemas.wire import encode_event
from core_tables.settings.environment import Settings
from tests.builders import make
from tests.cluster import Cluster
from tests.leftovers import note
from tests.world import wait_until

from .test_brokers import MINUTES, SMALL

PRODUCE = b"\0\0"  # the number of the request (Kafka's protocol guide)


class Line:
    """A proxy before a broker: whole, cut, or so that a record gets through and the answer to it does not."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._swallows = False
        self._broker = ("127.0.0.1", 0)
        self.is_cut = False
        self.swallowed = threading.Event()
        self.port: int = self._listener.getsockname()[1]

    def lead_to(self, port: int) -> None:
        self._broker = ("127.0.0.1", port)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_cut = True
        while self._open:
            with contextlib.suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def repair(self, *, swallows: bool = False) -> None:
        self._swallows, self.is_cut = swallows, False

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                broker = socket.socket()
                if self.is_cut or broker.connect_ex(self._broker):
                    client.close()
                    broker.close()
                    continue
                self._open += [client, broker]
                sent = threading.Event()
                threading.Thread(target=self._requests, args=(client, broker, sent), daemon=True).start()
                threading.Thread(target=self._answers, args=(broker, client, sent), daemon=True).start()

    def _requests(self, client: socket.socket, broker: socket.socket, sent: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while request := client.recv(1 << 20):
                if self._swallows and request[4:6] == PRODUCE:
                    sent.set()
                broker.sendall(request)

    def _answers(self, broker: socket.socket, client: socket.socket, sent: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while answer := broker.recv(1 << 20):
                if sent.is_set():
                    self.swallowed.set()
                else:
                    client.sendall(answer)


@MINUTES
def test_a_record_is_not_written_twice_when_its_answer_is_lost_and_an_earlier_one_has_had_none(tmp_path: Path) -> None:
    line = Line()
    brokers = Cluster(note(tmp_path) / "broker", SMALL, (1,), line.port)
    try:
        brokers.start(1)
        line.lead_to(brokers.port(1))
        servers = f"127.0.0.1:{line.port}"
        settings = Settings(bootstrap_servers=servers)
        brokers.wait(settings)
        topic = f"once{os.getpid()}"
        create_topics(admin_client(settings.kafka_settings()), [topic], 1, 1)
        often = {"delivery.timeout.ms": 8_000, "reconnect.backoff.max.ms": 200}
        ledger = Ledger.connect(LedgerSettings(servers, topic=topic, kafka=often))
        events = [make("FIELD_SET", turn_id=number) for number in range(1, 5)]
        assert ledger.append(events[0]).place() == (0, 0)
        line.cut()
        overdue, begun = ledger.append(events[1]), time.monotonic()
        wait_until(
            lambda: time.monotonic() > begun + 4, "the second append to be half as old as the first when that ends"
        )
        lost = ledger.append(events[2])
        line.repair(swallows=True)
        assert line.swallowed.wait(4), "both are written"
        line.cut()
        with pytest.raises(UnavailableError, match="not known"):
            overdue.place()
        line.repair()
        with pytest.raises(UnavailableError, match="not known"):
            lost.place()
        place = ledger.append(events[3]).place()
        reader = TopicReader(log_end_consumer(settings.kafka_settings()), topic, LOG_END_GROUP)
        written = [message.value() for message in reader.records({0: 0})]
        reader.close()
        assert written == [encode_event(event) for event in events]
        assert place == (0, 3)
        ledger.close()
    finally:
        brokers.close()
        line.close()
