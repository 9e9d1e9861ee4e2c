"""What the audit of a lane must not continue after, and what it tries again."""

import itertools

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from core_tables.consumer.audit_queue import AuditQueue
from core_tables.schemas.audit import decode_audit
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import SetupError

from .builders import make
from .fakes import IdleProducer, RefusingProducer, accepted, emitter_over, queue_of
from .world import World, wait_until

pytestmark = pytest.mark.stack

ACME = partition_of(b"acme", 12)


def test_an_audit_topic_that_lost_records_stops_the_lane(fresh: World) -> None:
    with fresh.working():
        assert fresh.outcome(make("FIELD_SET")) == Accepted()
        fresh.drain()
    fresh.append(make("FIELD_SET"), make("FIELD_SET"))
    fresh.admin.execute("update os_core.lanes set applied = 3, audited = 3 where lane = %s", (ACME,))
    fresh.append(make("FIELD_SET"))
    with fresh.working() as running:
        lane = wait_until(lambda: running.worker.lanes.get(ACME), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
        running.has_stopped(ACME, "audit_lost")
    assert "audit topic" in cause.message


@pytest.mark.parametrize(
    ("code", "stops"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, True),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, True),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, False),
        (KafkaError._TIMED_OUT, False),
        (KafkaError._FENCED, False),
    ],
)
def test_an_audit_that_is_not_permitted_stops_its_lane_and_one_that_may_pass_is_tried_again(
    code: int, stops: bool
) -> None:
    queue = queue_of(0)
    emitter_over(queue, open_producer=lambda _: RefusingProducer(code)).step(0)
    assert list(queue.stopped()) == ([0] if stops else [])


def test_an_outcome_that_the_audit_topic_finds_too_large_is_sent_again_until_it_is_taken(fresh: World) -> None:
    topic = fresh.settings.audit_topic
    fresh.set_topic(topic, "max.message.bytes", "60")
    with fresh.working() as running:
        fresh.append(make("FIELD_SET"))
        line = wait_until(lambda: running.log_lines("audit_reopens"), "the broker to refuse the record")[0]
        fresh.set_topic(topic, "max.message.bytes", "1048588")
        fresh.drain()
        assert not running.log_lines("lane_stopped")
    assert f"refused a record for {topic}" in line["cause"]
    assert "raise max.message.bytes" in line["cause"]


class ReportingProducer(RefusingProducer):
    """A producer that is refused while it serves a delivery report, as Python and the client show that."""

    def init_transactions(self, _timeout: float) -> None:
        raise SystemError("a report returned a result with an exception set") from KafkaException(
            KafkaError(self.code, "planted")
        )


def test_an_audit_that_is_fenced_while_it_serves_reports_is_tried_again() -> None:
    queue = queue_of(0)
    emitter_over(queue, open_producer=lambda _: ReportingProducer(KafkaError._FENCED)).step(0)
    assert not queue.stopped()


def test_an_audit_tail_above_the_end_of_the_ledger_stops_its_lane() -> None:
    queue = queue_of(0)
    ports = {"last_event_id": lambda _: event_id_at(0, 7), "ledger_end": lambda _: 5}
    emitter_over(queue, open_producer=lambda _: IdleProducer(), **ports).step(0)
    assert "above the end 5 of the ledger's log" in str(queue.stopped()[0])


def test_lanes_that_take_turns_are_opened_together_and_emitted_one_after_the_other() -> None:
    queue = AuditQueue(10)
    opened: list[str] = []
    for lane in range(3):
        queue.open(lane, 0, 0)
        queue.put([accepted(event_id_at(lane, 0))])

    def open_producer(transactional_id: str) -> IdleProducer:
        opened.append(transactional_id)
        return IdleProducer()

    emitter = emitter_over(queue, open_producer=open_producer, clock=itertools.count(1.0).__next__)
    left: list[list[int]] = []
    for _ in range(3):
        emitter.step(0, most=1)
        assert opened == ["audit.0", "audit.1", "audit.2"]
        queue.put([accepted(event_id_at(0, 1 + len(left)))])
        left.append([waiting.lane for waiting in queue.waiting(0)])
    assert left == [[0, 1, 2], [0, 2], [0]]


def test_the_producer_of_a_quiet_lane_is_there_before_its_first_outcome() -> None:
    queue = AuditQueue(10)
    opened: list[str] = []

    def open_producer(transactional_id: str) -> IdleProducer:
        opened.append(transactional_id)
        return IdleProducer()

    emitter = emitter_over(queue, open_producer=open_producer)
    queue.open(3, 0, 0)
    assert emitter.step(0) == 0
    assert opened == ["audit.3"]
    queue.put([accepted(event_id_at(3, 0))])
    assert emitter.step(0) == 1
    assert opened == ["audit.3"]
    assert queue.empty()


def test_an_emptied_audit_partition_is_another_topic_if_the_broker_says_so() -> None:
    def check() -> None:
        raise SetupError("the topic audit was deleted and created again", "topic")

    queue = queue_of(0)
    emitter_over(queue, open_producer=lambda _: IdleProducer(), audited=lambda _: 3, check_topics=check).step(0)
    assert "created again" in str(queue.stopped()[0])


def test_an_emptied_audit_partition_is_continued_at_the_watermark_of_postgres(fresh: World) -> None:
    """A worker had nothing to emit for long; others raised the watermark meanwhile, and retention emptied the partition."""
    with fresh.working() as running:
        assert fresh.outcome(make("FIELD_SET")) == Accepted()
        fresh.drain()
        audit = running.audit._queue
        admin = fresh.kafka_admin()
        target = TopicPartition(fresh.settings.audit_topic, ACME, -1)
        for future in admin.delete_records([target]).values():
            future.result()
        stale = audit._lanes[ACME]
        stale.audited = stale.start = 0
        running.audit._emitter._close_output(ACME)
        stale.entries.append(accepted(event_id_at(ACME, 0)))
        audit._count += 1
        wait_until(audit.empty, "the queue to be empty")
        assert fresh.outcome(make("FIELD_SET")) == Accepted()
        wait_until(lambda: fresh.positions()[ACME] == (2, 2), "the second record to be audited")
    with fresh.topic(fresh.settings.audit_topic) as reader:
        left = list(reader.records({ACME: OFFSET_BEGINNING}))
    assert [decode_audit(message.value() or b"").event_id for message in left] == [event_id_at(ACME, 1)]
