"""What a worker must not continue after: the lane stops with offset and cause, and nothing is skipped."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)

from core_tables.cli.output import EXIT_CLIENT, EXIT_TOPIC, exit_code
from core_tables.consumer.audit_queue import AuditQueue
from core_tables.kafka.tail import LogProbe
from core_tables.kafka.topics import IN_SYNC, create_topics, describe_topics
from core_tables.projection.fold.batch import fold_in_parts
from core_tables.projection.fold.values import Changed, Decided, Loaded, Record
from core_tables.projection.postgres.store import Store
from core_tables.schemas.audit import decode_audit
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import (
    FatalClientError,
    LaneStoppedError,
    SetupError,
    UnavailableError,
    UnknownSchemaError,
)
from core_tables.schemas.wire import encode_event

from .builders import make, tenant_of_another_lane
from .fakes import IdleProducer, RefusingProducer, accepted, emitter_over, queue_of
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
        assert isinstance(cause, UnknownSchemaError)
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


def test_a_topic_that_was_made_again_is_refused_at_the_start(fresh: World) -> None:
    fresh.admin.execute("update os_core.work_order_topics set topic_id = 'of another topic'")
    with pytest.raises(SetupError, match="deleted and created again"), fresh.working():
        pass


def test_another_cluster_is_refused_at_the_start(fresh: World) -> None:
    fresh.admin.execute("update os_core.work_order_topics set cluster_id = 'elsewhere'")
    with pytest.raises(SetupError, match="cluster"), fresh.working():
        pass


def test_a_log_that_is_shorter_than_what_was_folded_stops_the_lane(fresh: World) -> None:
    fresh.admin.execute("update os_core.lanes set applied = 5, audited = 5 where lane = 3")
    with fresh.working() as running:
        lane = wait_until(lambda: running.worker.lanes.get(3), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
    assert isinstance(cause, LaneStoppedError)
    assert "lost records" in cause.message


def test_a_ledger_row_that_is_missing_below_applied_stops_the_lane(fresh: World) -> None:
    fresh.append(make("FIELD_SET"))
    fresh.admin.execute("update os_core.lanes set applied = 1 where lane = %s", (ACME,))
    with fresh.working() as running:
        lane = wait_until(lambda: running.worker.lanes.get(ACME), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
    assert "no outcome" in cause.message


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
    assert "audit topic" in cause.message


@pytest.mark.parametrize(
    ("setting", "value"),
    [("cleanup.policy", "compact"), ("retention.ms", "86400000"), ("unclean.leader.election.enable", "true")],
)
def test_a_topic_that_could_lose_records_is_refused(fresh: World, setting: str, value: str) -> None:
    name, admin = fresh.settings.audit_topic, fresh.kafka_admin()
    fresh.set_topic(name, setting, value)
    topic = describe_topics(admin, [name]).topics[name]
    assert topic.replication == int(topic.settings[IN_SYNC]) == 1
    wait_until(lambda: describe_topics(admin, [name]).topics[name].settings[setting] == value, "the broker to show it")
    with pytest.raises(SetupError, match=setting):
        fresh.init()
    with pytest.raises(SetupError, match=setting), fresh.working():
        pass


@pytest.mark.parametrize(
    "damage",
    [
        "alter table os_core.work_order_ledger disable trigger append_only",
        "alter table os_core.work_orders_current no force row level security",
        "drop table os_core.work_order_leases",
    ],
)
def test_a_database_that_was_tampered_with_is_refused_at_the_start(fresh: World, damage: str) -> None:
    fresh.admin.execute(damage.encode())
    with pytest.raises(SetupError, match="not as it should be"), fresh.working():
        pass


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


def shown_stops(world: World) -> tuple[int, dict[int, dict[str, Any]]]:
    """The exit code of `status`, and by lane what it says of those that have stopped."""
    done = world.command("status", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {row["lane"]: row["stopped"] for row in rows if row.get("stopped")}


def test_a_record_that_the_client_cannot_unpack_stops_its_lane_and_one_that_can_gets_past_it(fresh: World) -> None:
    """30 MB of zeros in a batch of a few kB, on a topic that took such a batch in before its settings were made right."""
    event_id = fresh.note(fresh.ledger.append(make("FIELD_SET")))
    topic, usual = fresh.settings.topic, fresh.settings
    fresh.set_topic(topic, "compression.type", "producer")
    packer = Producer(
        {"bootstrap.servers": usual.kafka_servers(), "compression.type": "zstd", "message.max.bytes": 100_000_000}
    )
    offsets: list[Any] = []

    def pack() -> bool:
        packer.produce(
            topic, bytes(30_000_000), b"acme", ACME, on_delivery=lambda _, sent: offsets.append(sent.offset())
        )
        packer.flush(20)
        return offsets[-1] is not None

    wait_until(pack, "the broker to show the setting, and to take the batch in")
    fresh.set_topic(topic, "compression.type", "uncompressed")
    behind = event_id_at(ACME, offsets[-1])
    fresh.settings = usual.model_copy(
        update={"kafka": {"receive.message.max.bytes": "10000000", "fetch.max.bytes": "9000000"}}
    )
    with fresh.working() as running:
        wait_until(lambda: running.log_lines("lane_stopped"), "the lane to stop")
        code, stops = wait_until(lambda: (found := shown_stops(fresh))[1] and found, "the stop to be shown")
        assert fresh.outcome(make("FIELD_SET", tenant_id=tenant_of_another_lane(ACME))) == Accepted()
        folded_and_audited = (offsets[-1], offsets[-1])
        wait_until(
            lambda: fresh.positions()[ACME] == folded_and_audited, "what lies before it to be folded and audited"
        )
    (line,) = running.log_lines("lane_stopped")
    assert (line["lane"], line["offset"]) == (ACME, offsets[-1])
    assert (code, list(stops)) == (10, [ACME])
    stop = stops[ACME]
    assert (stop["event_id"], stop["cause"], stop["sentence"]) == (behind, "record", line["cause"])
    assert stop["worker"] == running.worker.name
    fresh.settings = usual
    with fresh.working():
        wait_until(lambda: fresh.positions()[ACME][0] > offsets[-1], "the lane to get past it")
        wait_until(lambda: shown_stops(fresh) == (0, {}), "the stop to be cleared")
    (row,) = fresh.admin.execute(
        "select outcome, field from os_core.work_order_outcomes where event_id = %s", (behind,)
    ).fetchall()
    assert row == ("REFUSED", None)
    assert event_id < behind


def test_a_stop_that_cannot_be_kept_is_a_stop_all_the_same(fresh: World) -> None:
    fresh.register(LATER)
    fresh.admin.execute("revoke insert on os_core.lane_stops from core_tables_worker")
    fresh.produce(b"acme", UNKNOWN, ACME)
    with fresh.working() as running:
        wait_until(lambda: running.log_lines("stops_not_saved"), "the worker to try")
        assert len(running.log_lines("lane_waits_for_release")) == 1
        assert fresh.outcome(make("FIELD_SET", tenant_id=tenant_of_another_lane(ACME))) == Accepted()
        assert len(running.log_lines("stops_not_saved")) == 1, "what is not permitted is not tried again"


def test_an_audit_trail_with_a_record_that_cannot_be_read_says_where_it_is(fresh: World) -> None:
    producer = Producer({"bootstrap.servers": fresh.settings.kafka_servers()})
    producer.produce(fresh.settings.audit_topic, b"of somebody else", b"acme", ACME)
    producer.flush(20)
    done = fresh.command("audit", "--tenant", "acme")
    assert done.returncode == EXIT_TOPIC
    assert f"offset 0 of partition {ACME} of the audit topic is not an audit event".encode() in done.stderr


@pytest.mark.parametrize("passes", [True, False])
def test_a_worker_goes_on_where_it_cannot_ask_for_old_stops(
    fresh: World, monkeypatch: pytest.MonkeyPatch, passes: bool
) -> None:
    asked: list[int] = []

    def fails(_: Store) -> list[Any]:
        asked.append(1)
        raise UnavailableError("postgres", "planted") if passes else SetupError("planted", "permission")

    monkeypatch.setattr(Store, "lane_stops", fails)
    with fresh.working() as running:
        assert fresh.outcome(make("FIELD_SET")) == Accepted()
        wait_until(lambda: running.log_lines("stops_not_saved"), "the worker to ask")
        fresh.drain()
        assert fresh.outcome(make("FIELD_SET")) == Accepted()
    assert running.errors == []
    assert passes or len(asked) == 1, "what is refused is not asked again"


def test_a_stop_keeps_its_time_over_restarts(fresh: World) -> None:
    fresh.register(LATER)
    fresh.produce(b"acme", UNKNOWN, ACME)
    found = []
    for _ in range(2):
        with fresh.working() as running:
            wait_until(lambda: running.log_lines("lane_waits_for_release"), "the lane to stop")
            wait_until(lambda: shown_stops(fresh)[1], "the stop to be shown")
        found.append(shown_stops(fresh))
    assert found[0] == found[1]
    assert found[0][1][ACME]["cause"] == "schema"


def test_a_worker_whose_group_instance_id_another_one_uses_ends(fresh: World) -> None:
    """The broker fences its client, which would look alive and fold nothing."""
    fresh.settings = fresh.settings.model_copy(update={"kafka": {"group.instance.id": "one"}})
    with fresh.working() as first:
        wait_until(lambda: first.worker.lanes, "the first to have lanes")
        with fresh.working() as second:
            first.thread.join(60)
            assert not first.thread.is_alive()
            (error,) = first.errors
            assert isinstance(error, FatalClientError)
            assert exit_code(error) == EXIT_CLIENT
            assert "group.instance.id" in error.message
            wait_until(lambda: second.worker.lanes, "the second to have its lanes")
            assert fresh.outcome(make("FIELD_SET")) == Accepted()


@pytest.mark.parametrize("codec", ["zstd", "gzip", "lz4", "snappy"])
def test_a_topic_of_init_takes_in_no_batch_that_unpacks_to_more_than_it_may(fresh: World, codec: str) -> None:
    settings = {"bootstrap.servers": fresh.settings.kafka_servers(), "compression.type": codec}
    producer = Producer({**settings, "message.max.bytes": 10_000_000})
    errors: list[Any] = []
    producer.produce(fresh.settings.topic, bytes(3_000_000), b"acme", ACME, on_delivery=lambda e, _: errors.append(e))
    producer.flush(20)
    assert [error.code() for error in errors] == [KafkaError.MSG_SIZE_TOO_LARGE]


@pytest.mark.parametrize(("setting", "value"), [("compression.type", "producer"), ("max.message.bytes", "2000000")])
def test_a_ledger_topic_that_takes_in_any_batch_is_refused(fresh: World, setting: str, value: str) -> None:
    name, admin = fresh.settings.topic, fresh.kafka_admin()
    fresh.set_topic(name, setting, value)
    wait_until(lambda: describe_topics(admin, [name]).topics[name].settings[setting] == value, "the broker to show it")
    with pytest.raises(SetupError, match=setting), fresh.working():
        pass


def make_anew(world: World, name: str) -> None:
    """Delete a topic and make it again, as somebody might while workers run."""
    admin = world.kafka_admin()
    for future in admin.delete_topics([name]).values():
        future.result()
    wait_until(lambda: create_topics(admin, [name], 12, 1), f"{name} to be created again")


@pytest.mark.parametrize("which", ["topic", "audit_topic"])
def test_a_topic_that_is_made_anew_under_a_running_worker_stops_every_lane(fresh: World, which: str) -> None:
    with fresh.working() as running:
        assert fresh.outcome(make("FIELD_SET")) == Accepted()
        fresh.drain()
        make_anew(fresh, getattr(fresh.settings, which))
        fresh.produce(b"acme", encode_event(make("FIELD_SET")), ACME)
        running.thread.join(40)
        assert not running.thread.is_alive(), "a worker whose lanes have all stopped ends"
        causes = [str(lane.stopped) for lane in running.worker.lanes.values()]
    assert len(causes) == 12
    assert all("created again" in cause for cause in causes), causes
    assert len(fresh.rows("work_order_ledger")) <= 2, "nothing of another ledger is folded"
    if which == "audit_topic":
        assert not any(fresh.audit_events().values()), "no reader of the new topic is shown anything"


@pytest.mark.parametrize("which", ["topic", "audit_topic"])
def test_init_never_makes_a_topic_anew_that_the_database_knows(fresh: World, which: str) -> None:
    admin, name = fresh.kafka_admin(), getattr(fresh.settings, which)
    for future in admin.delete_topics([name]).values():
        future.result()
    wait_until(lambda: name not in admin.list_topics(timeout=10).topics, "the topic to be gone")
    with pytest.raises(SetupError, match="does not exist, though the database knows it; restore the topic"):
        fresh.init()
    assert name not in describe_topics(admin, [name]).topics


def test_a_lane_without_a_row_stops_alone(fresh: World) -> None:
    fresh.admin.execute("delete from os_core.lanes where lane = 3")
    with fresh.working() as running:
        assert fresh.outcome(make("FIELD_SET")) == Accepted()
        lane = wait_until(lambda: running.worker.lanes.get(3), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
        assert "lane 3 has no row" in str(cause)
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
