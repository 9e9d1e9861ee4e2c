"""What was fetched and is not folded yet: in its order, at most a batch ahead, and forgotten with its partition."""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

from core_tables.consumer import fetcher as module
from core_tables.consumer.fetcher import Failure, Fetcher, Read, Unread
from core_tables.projection.fold.values import Record, Request
from core_tables.schemas.identity import event_id_at, lane_of, offset_of, partition_of
from core_tables.schemas.topic import LedgerTopic
from core_tables.schemas.wire import KNOWN_SCHEMAS, encode_event, lane_schemas

from .builders import make
from .simulation.broker import Message

TOPIC = LedgerTopic(100, "ledger", "id", "cluster", 12, "audit", "audit id")
VALUE = encode_event(make("FIELD_SET"))
ACME = partition_of(b"acme", 12)
OTHER = (ACME + 1) % 12


class Failed(Message):
    """An error in the place of a record."""

    def __init__(self, partition: int, error: KafkaError) -> None:
        super().__init__(partition, 0, b"", b"")
        self._error = error

    def error(self) -> Any:
        return self._error


class Listed:
    """A consumer that hands out a list of messages; `served` is called as a group's callback would be."""

    def __init__(self, messages: list[Message], served: Callable[[], None] = lambda: None) -> None:
        self.messages = messages
        self.served = served
        self.waits = 0

    def consume(self, count: int, wait_s: float) -> list[Message]:
        self.waits += wait_s > 0
        self.served()
        given, self.messages = self.messages[:count], self.messages[count:]
        return given

    def incremental_assign(self, _targets: object) -> None:
        """Its messages are those of the list."""


def fetcher_of(consumer: Listed) -> Fetcher:
    return Fetcher(consumer, TOPIC)  # type: ignore[arg-type]


def places(reads: list[Read]) -> list[tuple[int, int]]:
    """Partition and offset of each record."""
    records = [read for read in reads if isinstance(read, Record)]
    assert len(records) == len(reads)
    return [(lane_of(read.event_id) - 100, offset_of(read.event_id)) for read in records]


def log(count: int, partition: int = ACME) -> list[Message]:
    return [Message(partition, offset, b"acme", VALUE) for offset in range(count)]


@pytest.mark.parametrize("ahead", [False, True])
def test_batches_come_in_order_whether_they_were_read_ahead_or_not(ahead: bool) -> None:
    consumer = Listed(log(8))
    fetcher = fetcher_of(consumer)
    sizes = []
    for start in (0, 3, 6):
        taken = fetcher.take(3, 1.0)
        assert places(taken) == [(ACME, offset) for offset in range(start, start + len(taken))]
        sizes.append(len(taken))
        if ahead:
            fetcher.read_ahead(3)
    assert sizes == [3, 3, 2]
    assert consumer.waits == 1, "nothing is waited for while something is here"


def test_at_most_one_batch_is_fetched_ahead_and_none_is_given_out_in_a_pause() -> None:
    consumer = Listed(log(20))
    fetcher = fetcher_of(consumer)
    fetcher.take(3, 1.0)
    assert len(consumer.messages) == 14
    consumer.messages = []
    assert fetcher.failures(1.0) == []
    assert len(fetcher.take(3, 1.0)) == 3


def test_errors_come_in_a_pause_too() -> None:
    lost = KafkaError(KafkaError._AUTO_OFFSET_RESET, "planted")
    fetcher = fetcher_of(Listed([*log(4), Failed(OTHER, lost)]))
    fetcher.take(3, 1.0)
    assert fetcher.failures(1.0) == [Failure(OTHER, 0, lost)]
    assert fetcher.failures(1.0) == []
    assert places(fetcher.take(3, 1.0)) == [(ACME, 3)]


@pytest.mark.parametrize("ahead", [0, 3])
def test_the_errors_of_a_partition_are_forgotten_with_it(ahead: int) -> None:
    lost = KafkaError(KafkaError._AUTO_OFFSET_RESET, "planted")
    fetcher = fetcher_of(Listed([*log(3), Failed(ACME, lost), Failed(OTHER, lost)]))
    fetcher.take(3, 1.0)
    fetcher.read_ahead(ahead)
    fetcher.forget(ACME)
    assert fetcher.take(3, 1.0) == [Failure(OTHER, 0, lost)]


@pytest.mark.parametrize("ahead", [0, 2, 4])
def test_a_partition_is_forgotten_read_or_not(ahead: int) -> None:
    mixed = [message for pair in zip(log(4), log(4, OTHER), strict=True) for message in pair]
    fetcher = fetcher_of(Listed(mixed))
    fetcher.take(4, 1.0)
    fetcher.read_ahead(ahead)
    fetcher.forget(OTHER)
    assert places(fetcher.take(4, 1.0)) == [(ACME, 2), (ACME, 3)]


def test_what_a_callback_forgets_while_more_is_fetched_does_not_come_back() -> None:
    consumer = Listed(log(2, OTHER) + log(2))
    fetcher = fetcher_of(consumer)
    fetcher.take(1, 1.0)
    consumer.messages, consumer.served = log(2), lambda: fetcher.forget(OTHER)
    assert set(places(fetcher.take(4, 1.0))) == {(ACME, 0), (ACME, 1)}


def test_a_record_of_an_unknown_schema_has_its_place() -> None:
    fetcher = fetcher_of(Listed([Message(ACME, 7, b"acme", b"\xc3\x01unknown!body")]))
    fetcher.start(ACME, 7, lane_schemas({b"unknown!".hex(): 7}))
    (read,) = fetcher.take(1, 1.0)
    assert isinstance(read, Unread)
    assert (lane_of(read.event_id), offset_of(read.event_id)) == (100 + ACME, 7)
    assert f"offset 7 of partition {ACME} of ledger" in read.error.message


def test_what_was_read_before_a_lane_is_opened_again_is_read_again() -> None:
    """A schema may have been registered meanwhile: what was read without it must not be folded."""
    consumer = Listed(log(2))
    fetcher = fetcher_of(consumer)
    fetcher.start(ACME, 0, {})
    fetcher.take(1, 1.0)
    fetcher.read_ahead(1)
    fetcher.start(ACME, 1, KNOWN_SCHEMAS)
    consumer.messages = log(2)[1:]
    (read,) = fetcher.take(2, 1.0)
    assert isinstance(read, Record)
    assert isinstance(read.content, Request)


def test_a_record_that_raises_while_it_is_read_is_one_that_its_lane_stops_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised, it would end the worker with all of its lanes."""
    fetcher = fetcher_of(Listed(log(2)))
    assert places(fetcher.take(1, 1.0)) == [(ACME, 0)]

    def fails(*_: Any) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(module, "read_content", fails)
    fetcher.read_ahead(1)
    (read,) = fetcher.take(1, 1.0)
    assert isinstance(read, Unread)
    assert read.event_id == event_id_at(100 + ACME, 1)
    assert "RuntimeError" in read.error.message
