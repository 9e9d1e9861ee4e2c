"""The Kafka room without a broker: which error means what, and how partitions are read."""

import math
import re
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from core_tables.kafka import clients, reported
from core_tables.kafka.client_settings import ClientSettingError, KafkaSettings
from core_tables.kafka.clients import (
    delivery_timeout_s,
    ledger_consumer,
    ledger_producer,
    no_log,
    partition_consumer,
)
from core_tables.kafka.errors import (
    MEANINGS,
    translate_creation,
    translate_kafka,
    translate_running,
    unread,
)
from core_tables.kafka.log import LogEnd, TopicReader
from core_tables.kafka.tail import AuditTail, LogProbe
from core_tables.kafka.topics import ClusterFacts, TopicFacts, check_settings, settings_of_new_topics
from core_tables.schemas.reasons import CoreTablesError, LaneStoppedError, SetupError, UnavailableError

ARCHITECTURE = Path(__file__).parent.parent / "docs" / "ARCHITECTURE.md"
PERMISSIONS = [code for code, meaning in MEANINGS.items() if meaning == "permission"]
LOGINS = [code for code, meaning in MEANINGS.items() if meaning == "login"]
TOPICS = [code for code, meaning in MEANINGS.items() if meaning == "topic"]


@pytest.fixture(autouse=True)
def _nothing_reported() -> None:
    """What a client of another test was refused would be quoted."""
    reported.forget_refusals()


@pytest.mark.parametrize(
    ("codes", "at_start", "running", "creating"),
    [
        (PERMISSIONS, "permission", "permission", "permission"),
        (LOGINS, "permission", "kafka", "permission"),
        (TOPICS, "topic", "kafka", "topic"),
        ([KafkaError._AUTO_OFFSET_RESET], "lost", "lost", "lost"),
        ([KafkaError.INCONSISTENT_GROUP_PROTOCOL], "kafka", "kafka", "kafka"),
        ([KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN], "kafka", "kafka", "kafka"),
        ([KafkaError.POLICY_VIOLATION, KafkaError.INVALID_REPLICATION_FACTOR], "kafka", "kafka", "topic"),
    ],
)
def test_what_an_error_means_depends_on_its_code_and_on_when_it_comes(
    codes: list[int], at_start: str, running: str, creating: str
) -> None:
    assert len(PERMISSIONS) == 4
    assert len(LOGINS) == 2
    assert len(TOPICS) == 3
    for code in codes:
        error = KafkaError(code)
        assert kind(translate_kafka(error)) == kind(translate_kafka(KafkaException(error))) == at_start
        assert kind(translate_running(error)) == running
        assert kind(translate_creation("ledger", KafkaException(error))) == creating


def test_a_question_is_asked_again_each_time_for_longer_and_not_beyond_its_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, waits = [0.0], list[float]()

    def unanswered(timeout: float) -> None:
        waits.append(timeout)
        now[0] += timeout
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    class Client:
        def poll(self, timeout: float = 0) -> int:  # noqa: ARG002 - it has nothing to report
            return 0

    monkeypatch.setattr(reported, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with pytest.raises(KafkaException):
        reported.answered_within(Client(), unanswered, 10.0)
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 2.25]


def kind(error: CoreTablesError) -> str:
    match error:
        case SetupError(subject=subject):
            return subject
        case UnavailableError(dependency=dependency):
            return dependency
        case _:
            assert isinstance(error, LaneStoppedError)
            return "lost"


def test_the_table_of_errors_in_the_architecture_page_is_that_of_the_code() -> None:
    rows = re.findall(
        r"^\| (lost|record|fatal|topic|permission|login|group|passes) \| (.*?) \|",
        ARCHITECTURE.read_text("utf-8"),
        re.MULTILINE,
    )
    written = {getattr(KafkaError, code): meaning for meaning, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    assert written == MEANINGS


def test_an_error_that_the_client_calls_retriable_passes_where_a_topic_is_created() -> None:
    retriable = KafkaException(KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE, "planted", False, True))
    assert kind(translate_creation("ledger", retriable)) == "kafka"


def test_an_error_that_a_right_is_missing_for_names_it() -> None:
    for code in PERMISSIONS:
        assert "needs READ on the topic x" in translate_kafka(KafkaError(code), "READ on the topic x").message


def test_a_call_that_was_not_answered_quotes_what_the_client_reported_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reported, "_latest", [])
    timeout = KafkaError(KafkaError._TIMED_OUT)
    assert "reported" not in translate_kafka(timeout).message
    reported.note(KafkaError(KafkaError._SSL, "certificate verify failed"))
    reported.note(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert "certificate verify failed" in translate_kafka(timeout).message
    assert "certificate verify failed" in unread("ledger", 0).message
    assert "reported" not in translate_kafka(KafkaError(KafkaError.POLICY_VIOLATION)).message
    assert reported.reported(lambda: time.monotonic() + reported.RECENT_S) is None
    reported.note(KafkaError(KafkaError._AUTHENTICATION, "invalid password"))
    assert kind(translate_kafka(timeout)) == "permission"
    assert kind(translate_running(timeout)) == "kafka"


@pytest.mark.parametrize("file_is_there", [True, False])
def test_a_client_begins_with_the_current_password_and_a_new_one_ends_what_was_reported_of_the_old(
    monkeypatch: pytest.MonkeyPatch, file_is_there: bool
) -> None:
    def current() -> tuple[str, str]:
        if not file_is_there:
            raise SetupError("the file is gone", "machine")
        return "ada", "new"

    given = {"sasl.username": "ada", "sasl.password": "old"}
    common = clients._common(KafkaSettings("kafka:9092", extra=given, credentials=current))
    assert common["sasl.password"] == ("new" if file_is_there else "old")
    monkeypatch.setattr(reported, "_latest", [])
    renewal = clients._Renewal(current, ("ada", "old"))
    renewal.client = SimpleNamespace(set_sasl_credentials=lambda *credentials: taken.append(credentials))
    taken: list[tuple[str, str]] = []
    reported.note(KafkaError(KafkaError._AUTHENTICATION))
    assert renewal._renewed() == file_is_there
    assert (taken, reported.reported() is None) == (([("ada", "new")], True) if file_is_there else ([], False))


@pytest.mark.parametrize("extra", [{"no.such.property": "1"}, {"socket.timeout.ms": "soon"}])
def test_a_setting_that_the_client_rejects_is_an_error_of_the_setup(extra: dict[str, str]) -> None:
    settings = KafkaSettings("127.0.0.1:1", extra=extra)
    for make in (partition_consumer, lambda settings: ledger_producer(settings, no_log())):
        with pytest.raises(ClientSettingError, match="rejects a setting") as caught:
            make(settings)
        assert isinstance(caught.value, SetupError)


@pytest.mark.parametrize("name", ["delivery.timeout.ms", "message.timeout.ms"])
def test_a_delivery_timeout_is_in_milliseconds_and_0_means_never(name: str) -> None:
    def seconds(given: object) -> float:
        return delivery_timeout_s(KafkaSettings("127.0.0.1:1", extra={name: given}))

    assert [seconds(8_000), seconds("250"), seconds(0)] == [8.0, 0.25, math.inf]
    for wrong in (-1, "-1", "soon", None):
        with pytest.raises(ClientSettingError, match=f"{name} is not a number of milliseconds: {wrong!r}"):
            seconds(wrong)


def test_the_times_of_the_group_can_be_set() -> None:
    with pytest.raises(ClientSettingError, match=r"max.poll.interval.ms.*session.timeout.ms"):
        ledger_consumer(KafkaSettings("127.0.0.1:1", extra={"session.timeout.ms": 130_000}), 1)
    ledger_consumer(KafkaSettings("127.0.0.1:1", extra={"session.timeout.ms": 20_000}), 1).close()


@pytest.mark.parametrize(("replication", "in_sync"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_a_record_is_acknowledged_by_two_replicas_where_there_are_three(replication: int, in_sync: str) -> None:
    settings = settings_of_new_topics(replication)
    assert settings["min.insync.replicas"] == in_sync
    topic = TopicFacts("id", 12, settings, replication)
    check_settings(ClusterFacts("cluster", {"ledger": topic}), "ledger")
    alone = topic._replace(settings={**settings, "min.insync.replicas": "1"})
    if replication > 2:
        with pytest.raises(SetupError, match=r"has min.insync.replicas=1 .*--add-config min.insync.replicas=2"):
            check_settings(ClusterFacts("cluster", {"ledger": alone}), "ledger")


class Message:
    """A record, or what comes in the place of one."""

    def __init__(self, partition: int, offset: int = 0, code: int | None = None) -> None:
        self._partition, self._offset = partition, offset
        self._error = None if code is None else KafkaError(code)

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error

    def value(self) -> bytes | None:
        return b"" if self._error is None else None


def end(partition: int) -> Message:
    return Message(partition, code=KafkaError._PARTITION_EOF)


class Consumer:
    """Hands out what it was given, one piece a wait; each wait takes its whole time, by a clock of its own."""

    def __init__(self, *pieces: Iterable[Message]) -> None:
        self._pieces = [list(piece) for piece in pieces]
        self._rest: list[Message] = []
        self.assigned: dict[int, int] = {}
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def assign(self, targets: Any) -> None:
        self.assigned = {target.partition: target.offset for target in targets}

    def consume(self, count: int, wait_s: float) -> list[Message]:
        if wait_s and not self._rest:
            self.now += wait_s
            self._rest = self._pieces.pop(0) if self._pieces else []
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def get_watermark_offsets(self, *_: object, **__: object) -> tuple[int, int]:
        return 0, 100


def reader(*pieces: Iterable[Message]) -> TopicReader:
    consumer: Any = Consumer(*pieces)
    return TopicReader(consumer, "ledger", "a group", clock=consumer.clock)


def offsets(messages: Iterable[Any]) -> list[tuple[int, int]]:
    return [(message.partition(), message.offset()) for message in messages]


def test_partitions_are_read_until_the_end_of_each() -> None:
    pieces: tuple[list[Message], ...] = (
        [Message(0, 4), end(0)],
        [],
        [Message(1, 2), Message(0, 5)],
        [Message(1, 3), end(1), Message(0, 6)],
        [Message(0, 7)],
    )
    assert offsets(reader(*pieces).records({0: 4, 1: 0})) == [(0, 4), (1, 2), (0, 5), (1, 3), (0, 6)]


def test_a_record_before_an_error_is_handed_out_and_then_the_error_is_raised() -> None:
    failing = [Message(0, 4), Message(0, code=KafkaError.TOPIC_AUTHORIZATION_FAILED)]
    records = reader(failing).records({0: 4})
    assert next(records).offset() == 4
    with pytest.raises(SetupError, match="denied"):
        next(records)
    first = reader(failing).first(0, 4)
    assert first is not None


def test_a_partition_that_says_nothing_is_given_up_at_the_deadline() -> None:
    with pytest.raises(UnavailableError, match="partition 3 of ledger could not be read in time"):
        list(reader().batches({3: 0}, deadline=0.05))


def test_a_deadline_holds_though_records_come() -> None:
    steady = reader(*([Message(0, at)] for at in range(1000))).batches({0: 0}, deadline=1.0)
    next(steady)
    with pytest.raises(UnavailableError, match="partition 0 of ledger"):
        list(steady)


def test_a_partition_may_take_long_as_a_whole_while_records_come() -> None:
    assert len(offsets(reader(*([Message(0, at)] for at in range(1000)), [end(0)]).records({0: 0}))) == 1000


def test_of_records_under_one_offset_the_first_counts_in_each_partition() -> None:
    first, copy = Message(0, 5), Message(0, 5)
    pieces = [
        [Message(0, 4), first, copy, Message(1, 5)],
        [Message(0, 5), Message(0, 4), Message(0, 6), end(0), end(1)],
    ]
    read = list(reader(*pieces).records({0: 4, 1: 5}))
    assert offsets(read) == [(0, 4), (0, 5), (1, 5), (0, 6)]
    taken: Any = read[1]
    assert taken is first


def test_a_read_that_begins_again_hands_out_the_same_records_again() -> None:
    twice = reader([Message(0, 4), end(0)], [Message(0, 4), end(0)])
    assert offsets(twice.records({0: 4})) == offsets(twice.records({0: 4})) == [(0, 4)]


def test_a_record_at_an_offset_is_that_record_or_none() -> None:
    assert offsets(filter(None, [reader([Message(0, 4)]).at(0, 4)])) == [(0, 4)]
    assert reader([Message(0, 5)]).at(0, 4) is None, "a gap"
    assert reader([end(0)]).at(0, 4) is None, "the end"
    assert reader([Message(0, code=KafkaError._AUTO_OFFSET_RESET)]).at(0, 4) is None, "outside of the log"


def test_records_between_two_offsets_end_below_the_second() -> None:
    assert offsets(reader([Message(0, 4), Message(0, 6), Message(0, 7)]).between(0, 4, 7)) == [(0, 4), (0, 6)]
    assert offsets(reader([Message(0, 4), end(0)]).between(0, 4, 7)) == [(0, 4)]
    assert offsets(reader().between(0, 7, 7)) == []


def test_gaps_are_those_among_the_records_that_come_with_the_first() -> None:
    assert LogProbe(reader([], [Message(0, 5), Message(0, 6), Message(0, 8)], [Message(0, 11)])).gaps(0, 4) == {
        4: 5,
        7: 8,
    }
    assert LogProbe(reader([end(0)])).gaps(0, 4) == {}


def test_an_audit_partition_without_records_has_no_last_one() -> None:
    assert AuditTail(reader(*([end(0)] for _ in range(3))), lambda _: LogEnd(0, 0)).last_event_id(0) is None


def test_an_audit_partition_with_an_open_transaction_does_not_say_which_record_is_its_last() -> None:
    with pytest.raises(UnavailableError, match="partition 0 of the audit topic"):
        AuditTail(reader(), lambda _: LogEnd(0, 1)).last_event_id(0)
