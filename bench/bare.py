"""The bare loop that latencies are compared with: consume, insert a batch, commit, NOTIFY. It decides nothing.

It has the same producer and consumer settings, the same events, and its own topic and table. The outcome of an append is
known when LISTEN tells the appender that its offset is covered.
"""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
from confluent_kafka import KafkaError, Message, TopicPartition

from bench import place, running
from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.kafka.client_settings import KafkaSettings
from core_tables.kafka.clients import ledger_consumer
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.wire import encode_event
from core_tables.settings.environment import Settings

CHANNEL: Final = "bench_bare"
BATCH: Final = 2000
_TABLE: Final = """
create table if not exists bare (
    lane integer, position bigint, tenant_id text, value bytea, primary key (lane, position)
)
"""
_INSERT: Final = """
insert into bare select * from unnest(%b::integer[], %b::bigint[], %b::text[], %b::bytea[]) on conflict do nothing
"""
_NOTIFY: Final = f"select pg_notify('{CHANNEL}', payload) from unnest(%b::text[]) as batch (payload)"


def loop(settings: Settings) -> None:
    """Insert what comes, until the process is killed."""
    consumer = ledger_consumer(KafkaSettings(settings.kafka_servers(), "bare"), fetch_ahead=WorkerSettings.batch_size)
    consumer.assign([TopicPartition(settings.topic, partition, 0) for partition in range(settings.partitions)])
    with psycopg.connect(settings.admin(), autocommit=True, prepare_threshold=0) as connection:
        sys.stderr.write('"ready"\n')
        sys.stderr.flush()
        while True:
            messages = consumer.consume(1, 0.1)
            if messages:
                messages += consumer.consume(BATCH - 1, 0)
                _insert(connection, [message for message in messages if message.error() is None])


def _insert(connection: "psycopg.Connection[Any]", messages: list[Message]) -> None:
    if not messages:
        return
    rows = [(m.partition() or 0, m.offset() or 0, (m.key() or b"").decode(), m.value()) for m in messages]
    with connection.transaction():
        connection.execute(_INSERT, [list(column) for column in zip(*rows, strict=True)])
    ends = {row[0]: row[1] + 1 for row in rows}
    connection.execute(_NOTIFY, ([f"{lane}:{end}" for lane, end in ends.items()],))


class Appender:
    """Appends, and learns when each append is covered."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topic
        self._producer = place.producer(settings)
        self._listener = psycopg.connect(settings.admin(), autocommit=True)
        self._listener.execute(f"listen {CHANNEL}".encode())
        self._guard = threading.Lock()
        self._covered: dict[int, int] = {}
        self._waiting: dict[int, dict[int, float]] = {}
        self.sent = 0
        self._closing = False
        self.took: list[tuple[float, float]] = []  # when an append was due, and the seconds until it was known
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._deliver)]
        for thread in self._threads:
            thread.start()

    def send(self, event: LedgerEvent, due: float) -> None:
        """Append an event that was due at a time (monotonic seconds)."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                raise RuntimeError(f"the broker refused an append of the bare loop: {error}")
            partition, offset = message.partition() or 0, message.offset() or 0
            with self._guard:
                self._waiting.setdefault(partition, {})[offset] = due
                self._learn(partition)

        self.sent += 1
        self._producer.produce(self._topic, encode_event(event), event.tenant_id.encode(), on_delivery=delivered)
        self._producer.poll(0)

    def forget(self) -> None:
        """Forget what was measured; a new run begins."""
        self.took.clear()
        self.sent = 0

    def wait(self, timeout: float) -> None:
        """Wait until every append is known. Raises RuntimeError when the loop does not get there."""
        deadline = time.monotonic() + timeout
        while len(self.took) < self.sent:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.sent - len(self.took)} appends of the bare loop are still not covered")
            time.sleep(0.0005)

    def close(self) -> None:
        """End the threads and the connections."""
        self._closing = True
        for thread in self._threads:
            thread.join(2)
        self._listener.close()

    def _learn(self, partition: int) -> None:
        now, covered, waiting = time.monotonic(), self._covered.get(partition, 0), self._waiting.get(partition, {})
        for offset in [offset for offset in waiting if offset < covered]:
            due = waiting.pop(offset)
            self.took.append((due, now - due))

    def _listen(self) -> None:
        while not self._closing:
            for notification in self._listener.notifies(timeout=0.2):
                lane, _, end = notification.payload.partition(":")
                with self._guard:
                    self._covered[int(lane)] = max(self._covered.get(int(lane), 0), int(end))
                    self._learn(int(lane))

    def _deliver(self) -> None:
        while not self._closing:
            self._producer.poll(0.05)


@contextlib.contextmanager
def appender(settings: Settings) -> Iterator[Appender]:
    """An appender whose loop runs in its own process. The topic must exist."""
    with psycopg.connect(settings.admin(), autocommit=True) as connection:
        connection.execute(_TABLE.encode())
        connection.execute(b"truncate bare")
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.bare"],
        cwd=Path(__file__).parents[1],
        env=dict(place.environment(settings)),
        stderr=subprocess.PIPE,
    )
    with running.ended(process):
        running.Log(process.stderr, lambda line: b'"ready"' in line).ready_at(running.READY_S)
        made = Appender(settings)
        try:
            yield made
        finally:
            made.close()


if __name__ == "__main__":
    loop(Settings())
