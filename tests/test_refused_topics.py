"""Topics and tables that a worker refuses to start with, and topics that were deleted and created again."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer

from core_tables.kafka.topics import IN_SYNC, create_topics, describe_topics
from core_tables.schemas.identity import partition_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import SetupError
from core_tables.schemas.wire import encode_event

from .builders import make
from .world import World, wait_until

pytestmark = pytest.mark.stack

ACME = partition_of(b"acme", 12)


def test_a_topic_that_was_made_again_is_refused_at_the_start(fresh: World) -> None:
    fresh.admin.execute("update os_core.work_order_topics set topic_id = 'of another topic'")
    with pytest.raises(SetupError, match="deleted and created again"), fresh.working():
        pass


def test_another_cluster_is_refused_at_the_start(fresh: World) -> None:
    fresh.admin.execute("update os_core.work_order_topics set cluster_id = 'elsewhere'")
    with pytest.raises(SetupError, match="cluster"), fresh.working():
        pass


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
        running.has_stopped(ACME, "topic")
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
