"""What a worker must not continue after: the lane stops with offset and cause, and nothing is skipped."""

from collections.abc import Iterator

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition

from core_tables.kafka.tail import LogProbe
from core_tables.projection.fold.batch import fold_in_parts
from core_tables.projection.fold.values import Changed, Decided, Loaded, Record
from core_tables.projection.postgres.store import Store
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import SetupError, UnavailableError, UnknownSchemaError
from core_tables.schemas.wire import encode_event

from .builders import make, tenant_of_another_lane
from .world import World, new_world, wait_until

pytestmark = pytest.mark.stack

ACME = partition_of(b"acme", 12)
LATER = "0102030405060708"
UNKNOWN = b"\xc3\x01" + bytes.fromhex(LATER) + b"body of a later release"


def test_a_registered_schema_that_is_unknown_stops_its_lane_and_no_other(fresh: World) -> None:
    fresh.register(LATER)
    fresh.produce(b"acme", encode_event(make("FIELD_SET")), ACME)
    stop = fresh.produce(b"acme", UNKNOWN, ACME)
    fresh.produce(b"acme", encode_event(make("FIELD_SET")), ACME)
    other = tenant_of_another_lane(ACME)
    with fresh.working() as running:
        assert fresh.outcome(make("FIELD_SET", tenant_id=other)) == Accepted()
        lane = wait_until(lambda: running.worker.lanes.get(ACME), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
        running.has_stopped(ACME, "schema")
        assert f"offset {stop}" in cause.message
        assert LATER in cause.message
        assert [line["lane"] for line in running.log_lines("lane_waits_for_release")] == [ACME]
        assert fresh.positions()[ACME][0] == stop, "what lies before it is folded, and nothing behind it"
        wait_until(lambda: fresh.positions()[ACME] == (stop, stop), "what was folded to be audited")
        assert len(running.log_lines("lane_waits_for_release")) == 1


def test_the_audit_of_a_stopped_lane_is_complete_even_after_a_restart(fresh: World) -> None:
    """The worker that folded them audits nothing; the one that does comes at once to the record that it stops at."""
    single = new_world(fresh.stack, partitions=1)
    single.register(LATER)
    single.append(*(make("FIELD_SET", turn_id=turn) for turn in range(1, 22)))
    with single.working(audit=False):
        wait_until(lambda: single.positions()[0] == (21, 0), "the records to be folded")
    single.produce(b"acme", UNKNOWN, 0)
    with single.working() as running:
        running.thread.join(60)
        assert not running.thread.is_alive(), "the worker ends when its only lane has stopped"
    assert isinstance(running.errors[0], UnknownSchemaError)
    assert single.positions()[0] == (21, 21)
    assert [event.event_id for event in single.audit_events()[0]] == [event_id_at(0, at) for at in range(21)]


def test_a_lane_that_stops_at_an_unknown_schema_behind_a_gap_does_so_once(fresh: World) -> None:
    fresh.register(LATER)
    settings = {"bootstrap.servers": fresh.stack.bootstrap_servers, "transactional.id": f"{fresh.name}-gap-and-stop"}
    producer = Producer(settings)
    producer.init_transactions(20)
    for value in (encode_event(make("FIELD_SET")), UNKNOWN):
        producer.begin_transaction()
        producer.produce(fresh.settings.topic, value, b"acme", ACME)
        producer.commit_transaction(20)
    with fresh.working() as running:
        lane = wait_until(lambda: running.worker.lanes.get(ACME), "the lane to be assigned")
        wait_until(lambda: lane.stopped, "the lane to stop")
        wait_until(lambda: fresh.positions()[ACME] == (1, 1), "what lies before it to be audited")
    (line,) = running.log_lines("lane_waits_for_release")
    assert line["offset"] == 2, "where the record lies, not where the gap begins"


def test_a_lane_stops_at_the_record_that_cannot_be_folded_and_those_before_it_count(
    fresh: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them come in one batch; which one is at fault is found by folding its halves."""
    poison = 13

    def broken(records: list[Record], loaded: Loaded, changed: Changed) -> Iterator[list[Decided]]:
        if any(getattr(getattr(record.content, "event", None), "turn_id", 0) == poison for record in records):
            raise ZeroDivisionError("a defect")
        yield from fold_in_parts(records, loaded, changed)

    monkeypatch.setattr("core_tables.consumer.worker.fold_in_parts", broken)
    fresh.append(*(make("FIELD_SET", turn_id=turn) for turn in range(1, 22)))
    with fresh.working() as running:
        wait_until(lambda: fresh.positions()[ACME] == (poison - 1, poison - 1), "those before it to be audited")
        wait_until(lambda: running.log_lines("lane_stopped"), "the lane to stop")
    (line,) = running.log_lines("lane_stopped")
    assert (line["lane"], line["offset"]) == (ACME, poison - 1)
    assert "ZeroDivisionError" in line["cause"]


def test_a_worker_whose_lanes_have_all_stopped_ends_with_the_cause(fresh: World) -> None:
    single = new_world(fresh.stack, partitions=1)
    single.register(LATER)
    single.produce(b"acme", UNKNOWN, 0)
    with single.working() as running:
        running.thread.join(30)
    assert isinstance(running.errors[0], UnknownSchemaError)


def test_a_fold_that_raises_stops_its_lane_and_no_other(fresh: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(records: list[Record], loaded: Loaded, changed: Changed) -> Iterator[list[Decided]]:
        if any(getattr(getattr(record.content, "event", None), "turn_id", 0) == 666 for record in records):
            raise ZeroDivisionError("a defect")
        yield from fold_in_parts(records, loaded, changed)

    monkeypatch.setattr("core_tables.consumer.worker.fold_in_parts", broken)
    other = tenant_of_another_lane(ACME)
    fresh.append(make("FIELD_SET", turn_id=666), make("FIELD_SET", tenant_id=other))
    with fresh.working() as running:
        lane = wait_until(lambda: running.worker.lanes.get(ACME), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
        assert "ZeroDivisionError" in cause.message
        wait_until(lambda: fresh.positions()[partition_of(other.encode(), 12)][0] == 1, "the other lane to be folded")
        assert fresh.positions()[ACME][0] == 0
        running.has_stopped(ACME, "defect")


def test_a_log_that_is_shorter_than_what_was_folded_stops_the_lane(fresh: World) -> None:
    fresh.admin.execute("update os_core.lanes set applied = 5, audited = 5 where lane = 3")
    with fresh.working() as running:
        lane = wait_until(lambda: running.worker.lanes.get(3), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
        wait_until(lambda: running.probes.ready().ok, "a worker that no other release could improve to be ready")
        running.has_stopped(3, "records_lost")
    assert "lost records" in cause.message


def test_a_ledger_row_that_is_missing_below_applied_stops_the_lane(fresh: World) -> None:
    fresh.append(make("FIELD_SET"))
    fresh.admin.execute("update os_core.lanes set applied = 1 where lane = %s", (ACME,))
    with fresh.working() as running:
        lane = wait_until(lambda: running.worker.lanes.get(ACME), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
    assert "no outcome" in cause.message


def test_a_program_that_appends_in_transactions_leaves_gaps_and_everything_is_folded(fresh: World) -> None:
    """Each transaction ends with a record of the broker's own, which no reader is given; the log ends with one, too."""
    settings = {"bootstrap.servers": fresh.stack.bootstrap_servers, "transactional.id": f"{fresh.name}-foreign"}
    producer = Producer(settings)
    producer.init_transactions(20)
    for turn in range(1, 6):
        producer.begin_transaction()
        producer.produce(fresh.settings.topic, encode_event(make("FIELD_SET", turn_id=turn)), b"acme", ACME)
        producer.commit_transaction(20)
    with fresh.working() as running:
        wait_until(lambda: fresh.positions()[ACME] == (9, 9), "the lane to be folded and audited", 20)
        assert len(running.log_lines("lane_reopens")) == 0, "a gap costs a look, not what is in memory"
    assert [row[1] for row in fresh.rows("work_order_ledger")] == [event_id_at(ACME, at) for at in (0, 2, 4, 6, 8)]
    assert [event.event_id for event in fresh.audit_events()[ACME]] == [event_id_at(ACME, at) for at in (0, 2, 4, 6, 8)]


def test_the_groups_offset_reaches_the_end_of_a_log_that_ends_with_a_gap(fresh: World) -> None:
    """Otherwise those who scale by it see a lag of one record until the next record comes."""
    producer = Producer({"bootstrap.servers": fresh.stack.bootstrap_servers, "transactional.id": f"{fresh.name}-end"})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(fresh.settings.topic, encode_event(make("FIELD_SET")), b"acme", ACME)
    producer.commit_transaction(20)
    admin = fresh.kafka_admin()

    def committed() -> int:
        asked = ConsumerGroupTopicPartitions(fresh.settings.group_id, [TopicPartition(fresh.settings.topic, ACME)])
        (answer,) = admin.list_consumer_group_offsets([asked]).values()
        (found,) = answer.result().topic_partitions
        return int(found.offset)

    with fresh.working():
        wait_until(lambda: committed() == 2, "the end of the log to be committed")
    assert fresh.positions()[ACME] == (1, 1), "in the tables, positions are those behind records"


def test_a_lane_without_a_row_stops_alone(fresh: World) -> None:
    fresh.admin.execute("delete from os_core.lanes where lane = 3")
    with fresh.working() as running:
        assert fresh.outcome(make("FIELD_SET")) == Accepted()
        lane = wait_until(lambda: running.worker.lanes.get(3), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
        assert "lane 3 has no row" in str(cause)
        running.has_stopped(3, "database")
        assert [at for at, held in running.worker.lanes.items() if held.stopped] == [3]


def test_a_gap_that_cannot_be_looked_into_stops_its_lane_alone(fresh: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_probe: LogProbe, partition: int, start: int) -> dict[int, int]:
        raise SetupError(f"no look into {partition} at {start}", "permission")

    other = tenant_of_another_lane(ACME)
    producer = Producer({"bootstrap.servers": fresh.stack.bootstrap_servers, "transactional.id": f"{fresh.name}-gap"})
    producer.init_transactions(20)
    for _ in range(2):
        producer.begin_transaction()
        producer.produce(fresh.settings.topic, encode_event(make("FIELD_SET")), b"acme", ACME)
        producer.commit_transaction(20)
    monkeypatch.setattr(LogProbe, "gaps", refuse)
    with fresh.working() as running:
        fresh.produce(b"acme", encode_event(make("FIELD_SET")), ACME)
        lane = wait_until(lambda: running.worker.lanes.get(ACME), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
        assert "no look into" in str(cause)
        running.has_stopped(ACME, "permission")
        assert fresh.outcome(make("FIELD_SET", tenant_id=other)) == Accepted()


def test_an_unknown_schema_stops_no_lane_whose_records_before_it_are_not_folded(
    fresh: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres fails in the same step: the records are read again, and only then the lane stops."""
    fresh.register(LATER)
    good = fresh.produce(b"acme", encode_event(make("FIELD_SET")), ACME)
    stop = fresh.produce(b"acme", UNKNOWN, ACME)
    real = Store.commit
    failed: list[int] = []

    def commit(self: Store, applied: dict[int, int]) -> bool:
        if not failed:
            failed.append(1)
            self.rollback()
            raise UnavailableError("postgres", "planted")
        return real(self, applied)

    monkeypatch.setattr(Store, "commit", commit)
    with fresh.working() as running:
        lane = wait_until(lambda: running.worker.lanes.get(ACME), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
        assert f"offset {stop}" in str(cause)
        assert fresh.positions()[ACME][0] == good + 1 == stop
    assert failed
