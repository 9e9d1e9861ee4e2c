"""Servers that are killed, restarted, full or read-only, under load."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from confluent_kafka import Consumer, Message
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from core_tables.cli import wiring
from core_tables.cli.ledger_log import verify_against_topic
from core_tables.consumer.audit_emitter import AuditEmitter
from core_tables.consumer.audit_queue import LaneQueue
from core_tables.consumer.health_file import read_health
from core_tables.deploy import stack as local_stack
from core_tables.deploy.parts import Kafka, PartName, ShowLine
from core_tables.deploy.process import Start
from core_tables.kafka.log import PartitionLog, TopicReader
from core_tables.kafka.rights import check_rights, rights_of
from core_tables.kafka.topics import create_topics
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas import events
from core_tables.schemas.identity import offset_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import SetupError
from tests.builders import START, day, make
from tests.leftovers import note
from tests.oracle import check_everything
from tests.world import World, new_world, wait_until

from .conftest import Recovery

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A local stack of this module's own, whose parts may be killed."""
    path = note(tmp_path_factory.mktemp("faulty"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kafka, "prepare", _with_authorizer(Kafka.prepare))
        try:
            local_stack.up(path, print)
            yield path
        finally:
            local_stack.down(path, print, wipe=True)


def _with_authorizer(prepare: Callable[[Kafka, Path, int, ShowLine], Start]) -> Callable[..., Start]:
    """The broker obeys access rules; where there is none, everything is allowed."""

    def prepared(kafka: Kafka, directory: Path, port: int, progress: ShowLine) -> Start:
        start = prepare(kafka, directory, port, progress)
        with (directory / "server.properties").open("a", encoding="utf-8") as properties:
            properties.write("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n")
            properties.write("allow.everyone.if.no.acl.found=true\n")
        return start

    return prepared


@pytest.fixture
def fresh(folder: Path) -> World:
    """A world of one test's own on that stack."""
    return new_world(local_stack.up(folder, print))


@pytest.mark.parametrize(
    ("part", "with_signal"),
    [("postgres", signal.SIGQUIT), ("redis", signal.SIGKILL)],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_server_that_is_killed_and_started_again_costs_nothing_but_time(
    folder: Path, fresh: World, part: PartName, with_signal: int, recovery: Recovery
) -> None:
    """SIGQUIT is Postgres' immediate shutdown: it recovers from its log as after a crash."""
    fresh.append(*day(3000))
    with fresh.working(batch_size=100) as running:
        wait_until(lambda: running.worker.folded_records > 300, "the load to be under way")
        local_stack.stop_part(folder, part, with_signal=with_signal)
        local_stack.start_part(folder, part)
        with recovery(f"{part} killed and started again"):
            fresh.close()
            fresh.reconnect()
            fresh.append(*day(500, seed=2))
            fresh.drain(180)
    assert running.errors == []
    check_everything(fresh, 3500)


def test_a_worker_that_lost_its_lanes_with_the_broker_is_alive_but_not_ready_until_the_broker_is_back(
    folder: Path, fresh: World, recovery: Recovery, tmp_path: Path
) -> None:
    file = tmp_path / "health"
    fresh.append(*day(300))
    with fresh.working(health_file=file) as running:
        wait_until(lambda: file.exists() and read_health(file)[0].ready, "the worker to be ready")
        local_stack.stop_part(folder, "kafka", with_signal=signal.SIGKILL)
        try:
            wait_until(lambda: running.log_lines("dropped"), "the session to time out", 90)
            lost = len(running.log_lines("dropped"))
            wait_until(lambda: not read_health(file)[0].ready, "the worker to say that it is not ready")
            assert read_health(file)[0].alive
            assert [line["lost"] for line in running.log_lines("dropped")] == [True] * lost
        finally:
            local_stack.start_part(folder, "kafka")
        with recovery("kafka killed for longer than a session and started again"):
            fresh.close()
            fresh.reconnect()
            fresh.drain(180)
        wait_until(lambda: read_health(file)[0].ready, "the worker to be ready again")


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_broker_that_ends_in_the_middle_of_an_audit_transaction_costs_nothing_but_time(
    folder: Path, fresh: World, with_signal: int, recovery: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_in: list[int] = []
    reached, go_on = threading.Event(), threading.Event()
    real = AuditEmitter._commit

    def commit(emitter: AuditEmitter, end: int, queue: LaneQueue) -> int | None:
        if not reached.is_set():
            emitter._outputs[queue.lane].producer.flush(10)
            open_in.append(queue.lane)
            reached.set()
            go_on.wait(60)
        return real(emitter, end, queue)

    monkeypatch.setattr(AuditEmitter, "_commit", commit)
    fresh.append(*day(3000))
    with fresh.working(batch_size=100) as running:
        wait_until(reached.is_set, "a transaction to be open")
        (partition,) = open_in
        assert _uncommitted(fresh, partition), "the broker holds events that no read_committed reader sees yet"
        assert fresh.audit_messages(partition) == []
        local_stack.stop_part(folder, "kafka", with_signal=with_signal)
        local_stack.start_part(folder, "kafka")
        with recovery(f"kafka ended by {signal.Signals(with_signal).name} in a transaction and started again"):
            go_on.set()
            fresh.close()
            fresh.reconnect()
            fresh.append(*day(500, seed=2))
            fresh.drain(180)
    assert running.errors == []
    check_everything(fresh, 3500)


def _uncommitted(world: World, partition: int) -> list[Message]:
    """The audit records of a partition that lie in the broker, committed or not."""
    servers = {"bootstrap.servers": world.settings.kafka_servers(), "group.id": f"{world.name}-uncommitted"}
    consumer = Consumer({**servers, "isolation.level": "read_uncommitted", "enable.partition.eof": True})
    with closing(TopicReader(consumer, world.settings.audit_topic, "a group")) as reader:
        return list(reader.records({partition: 0}))


@pytest.mark.parametrize(
    "trouble",
    [{"maxmemory": "1", "maxmemory-policy": "noeviction"}, {"min-replicas-to-write": "1"}],
    ids=["maxmemory full", "read-only"],
)
def test_a_cache_that_takes_no_writes_answers_for_the_position_it_names(fresh: World, trouble: dict[str, str]) -> None:
    """Its label cannot be moved then: a list that it holds may be served on, and says how old it is."""
    client = redis.Redis.from_url(fresh.stack.redis_url, decode_responses=True)
    usual = {name: str(client.config_get(name)[name]) for name in trouble}
    query, other = PendingQuery("acme", "ada", START), PendingQuery("acme", "bob", START)
    bob = make("WORK_ORDER_CREATED", work_order_id="order-3", payload=events.WorkOrderCreated("bob"))
    plain = Reads(ReadPool.connect(fresh.settings.reader(), "test reads without cache"))
    with fresh.working(), closing(plain):
        assert fresh.outcome(make("WORK_ORDER_CREATED")) == Accepted()
        wait_until(lambda: fresh.reads.pending(query).from_cache, "the list to be cached")
        for name, value in trouble.items():
            client.config_set(name, value)
        try:
            right = {before.position: before.offers for before in [plain.pending(query)]}
            for appended in (make("WORK_ORDER_CREATED", work_order_id="order-2"), bob):
                assert fresh.outcome(appended) == Accepted()
                now = plain.pending(query)
                right[now.position] = now.offers
                answer = fresh.reads.pending(query)
                assert answer.offers == right[answer.position]
                assert answer.from_cache or answer.position == now.position
            assert [offer.work_order_id for offer in right[now.position]] == ["order-1", "order-2"]
            answer = fresh.reads.pending(other)
            assert [offer.work_order_id for offer in answer.offers] == ["order-3"], "a miss is never older"
            assert not answer.from_cache
        finally:
            for name, value in usual.items():
                client.config_set(name, value)
        newest = now._replace(from_cache=True)
        wait_until(lambda: fresh.reads.pending(query) == newest, "the cache to serve the newest position again")
    check_everything(fresh, 3)


@pytest.mark.skipif("FAULT_ROUNDS" not in os.environ, reason="a label lives 15 s: `make faults` waits for that")
@pytest.mark.parametrize(
    ("refuse", "allow"),
    [
        (("config", "set", "maxmemory", "1"), ("config", "set", "maxmemory", "0")),
        (("config", "set", "min-replicas-to-write", "1"), ("config", "set", "min-replicas-to-write", "0")),
        (("replicaof", "127.0.0.1", "1"), ("replicaof", "no", "one")),
    ],
    ids=["maxmemory full", "read-only", "a replica whose master is gone"],
)
def test_a_cache_that_takes_no_writes_serves_no_old_list_once_its_label_is_gone(
    fresh: World, refuse: tuple[str, ...], allow: tuple[str, ...]
) -> None:
    client = redis.Redis.from_url(fresh.stack.redis_url, decode_responses=True)
    command: Any = client.execute_command
    query = PendingQuery("acme", "ada", START, top_n=100)
    plain = Reads(ReadPool.connect(fresh.settings.reader(), "test reads without cache"))
    cache = wiring.cache(fresh.settings, fresh.store().connection)
    assert cache is not None
    with fresh.working(), closing(plain):
        lane = plain.lane_of_tenant("acme")
        assert fresh.outcome(make("WORK_ORDER_CREATED")) == Accepted()
        wait_until(lambda: fresh.reads.pending(query).from_cache, "the list to be cached")
        right = {now.position: now.offers for now in [plain.pending(query)]}
        lags: list[int] = []

        def label_after_a_fold() -> bool:
            """A work order comes and the one before goes; the list is right for the position that it names."""
            number = len(lags) + 2
            assert fresh.outcome(make("WORK_ORDER_CREATED", work_order_id=f"order-{number}")) == Accepted()
            gone = {"work_order_id": f"order-{number - 1}", "idempotency_key": f"key-{number}"}
            assert fresh.outcome(make("WORK_ORDER_CANCELED", **gone)) == Accepted()
            now = plain.pending(query)
            right[now.position] = now.offers
            assert [offer.work_order_id for offer in now.offers] == [f"order-{number}"]
            answer = fresh.reads.pending(query)
            assert answer.offers == right[answer.position]
            assert answer.from_cache or answer.position == now.position
            lags.append(now.position - answer.position)
            return bool(client.exists(cache._label(lane)))

        command(*refuse)
        try:
            wait_until(lambda: not label_after_a_fold(), "the label to be gone")
            assert any(lags), "an old list was served as long as the label lived"
            served = len(lags)
            assert not any(label_after_a_fold() for _ in range(3))
            assert not any(lags[served:]), "no list of before is served any more"
        finally:
            command(*allow)
        newest = plain.pending(query)._replace(from_cache=True)
        wait_until(lambda: fresh.reads.pending(query) == newest, "the cache to serve the newest position again")
        folded = sum(fresh.log_ends().values())
    check_everything(fresh, folded)


def test_ledger_records_that_nothing_needs_any_more_may_be_deleted(fresh: World) -> None:
    """Below the audited watermark a worker never reads; ids, being positions, stay what they are."""
    fresh.append(*day(300))
    with fresh.working():
        fresh.drain()
    fresh.delete_records(fresh.log_ends())
    fresh.append(*day(100, seed=2))
    with fresh.working() as running:
        fresh.drain()
        assert not [lane.stopped for lane in running.worker.lanes.values() if lane.stopped]
    assert running.errors == []
    assert fresh.verify().differences == []
    audited = {
        partition: [offset_of(event.event_id) for event in found] for partition, found in fresh.audit_events().items()
    }
    assert audited == {partition: list(range(end)) for partition, end in fresh.log_ends().items()}
    with closing(wiring.operator(fresh.settings)) as connection:
        differences = verify_against_topic(fresh.settings, [connection], lambda _: None).differences
    assert differences, "the report says that records are gone from the topic"
    assert all("but the log holds those from" in found.what for found in differences), "what is left of it is compared"


def test_ledger_records_deleted_before_they_were_folded_stop_their_lane_and_no_other(fresh: World) -> None:
    fresh.append(*day(300))
    with fresh.working():
        fresh.drain()
    folded = fresh.positions()
    fresh.append(*day(300, seed=2))
    ends = fresh.log_ends()
    victim = max(ends, key=lambda partition: ends[partition] - folded[partition][0])
    start, first = folded[victim][0], folded[victim][0] + 5
    fresh.delete_records({victim: first})
    with fresh.working() as running:
        lane = wait_until(lambda: running.worker.lanes.get(victim), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
        others = {partition: (end, end) for partition, end in ends.items() if partition != victim}
        wait_until(lambda: others.items() <= fresh.positions().items(), "the other lanes to be folded and audited")
        assert [partition for partition, lane in running.worker.lanes.items() if lane.stopped] == [victim]
    assert f"the log begins at offset {first}, but records from {start} on are needed" in cause.message
    assert fresh.positions()[victim] == folded[victim], "nothing was skipped"
    assert fresh.verify().differences == []


@pytest.mark.parametrize("which", ["topic", "audit_topic"])
def test_a_topic_that_is_deleted_and_made_again_is_refused(fresh: World, which: str) -> None:
    with fresh.working():
        fresh.append(*day(50))
        fresh.drain()
    admin, name = fresh.kafka_admin(), getattr(fresh.settings, which)
    for future in admin.delete_topics([name]).values():
        future.result()
    wait_until(lambda: create_topics(admin, [name], 12, 1), "the topic to be created again")
    with pytest.raises(SetupError, match="deleted and created again"), fresh.working():
        pass


def test_a_permission_that_is_taken_away_stops_the_lane_until_it_is_given_back(
    fresh: World, recovery: Recovery
) -> None:
    fresh.append(*day(200))
    fresh.admin.execute("revoke insert on os_core.work_order_ledger from core_tables_worker")
    busy = [partition for partition, end in fresh.log_ends().items() if end]
    with fresh.working() as running:
        lanes = running.worker.lanes
        wait_until(lambda: all(p in lanes and lanes[p].stopped for p in busy), "the lanes that have records to stop")
        causes = {str(lanes[partition].stopped) for partition in busy}
        running.has_stopped(busy[0], "permission")
    assert all("permission denied for table work_order_ledger" in cause for cause in causes), causes
    fresh.admin.execute("grant insert on os_core.work_order_ledger to core_tables_worker")
    with recovery("a permission taken away and given back"), fresh.working():
        fresh.drain()
    check_everything(fresh, 200)


def test_an_audit_topic_that_may_not_be_written_stops_its_lanes_until_it_may_again(
    fresh: World, recovery: Recovery
) -> None:
    with fresh.working() as running:
        lanes = running.worker.lanes
        wait_until(lambda: len(lanes) == 12 and all(lane.opened for lane in lanes.values()), "the lanes to be opened")
        with denied(fresh, fresh.settings.audit_topic, AclOperation.WRITE):
            wait_until(lambda: lacks_rights(fresh), "the broker to obey the rule")
            fresh.append(*day(200))
            busy = [partition for partition, end in fresh.log_ends().items() if end]
            wait_until(lambda: all(lanes[p].stopped for p in busy), "the lanes that have records to stop")
            causes = {str(lanes[partition].stopped) for partition in busy}
            assert not any(fresh.audit_events().values())
            with pytest.raises(SetupError, match=f"WRITE on the topic {fresh.settings.audit_topic}"), fresh.working():
                pass
    assert all("Kafka denied access" in cause for cause in causes), causes
    with recovery("a permission of Kafka taken away and given back"), fresh.working():
        fresh.drain()
    check_everything(fresh, 200)


def lacks_rights(world: World) -> bool:
    """Whether a worker would be refused now."""
    settings = world.settings
    rights = rights_of("worker", settings.topic, settings.audit_topic, settings.group_id)
    try:
        check_rights(world.kafka_admin(), rights)
    except SetupError:
        return True
    return False


def test_whoever_may_append_and_not_read_waits_in_a_cancel_without_looking_into_the_log(
    fresh: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a record is left at the end of a log, only readers can tell; so one may be, and is waited for."""
    looks: list[bool] = []
    real = PartitionLog.holds_record

    def look(*arguments: Any) -> bool:
        looks.append(real(*arguments))
        return looks[-1]

    monkeypatch.setattr(PartitionLog, "holds_record", look)
    fresh.append(make("WORK_ORDER_CREATED"))
    with ThreadPoolExecutor(1) as pool:
        with denied(fresh, fresh.settings.topic, AclOperation.READ):
            canceled = pool.submit(fresh.ledger.cancel, "acme", "order-1", 7, "k", START, timeout=60)
            wait_until(lambda: len(looks) > 1, "looks that are refused")
        with fresh.working():
            assert canceled.result().outcome(30) == Accepted()
    assert all(looks)


@contextmanager
def denied(world: World, topic: str, operation: AclOperation) -> Iterator[None]:
    """Everybody may do everything with a topic but one thing, as long as the block lasts."""
    admin = world.kafka_admin()
    where = (ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:*", "*")
    rules = [
        AclBinding(*where, AclOperation.ALL, AclPermissionType.ALLOW),
        AclBinding(*where, operation, AclPermissionType.DENY),
    ]
    for created in admin.create_acls(rules).values():
        created.result()
    try:
        yield
    finally:
        filters = [AclBindingFilter(*where, rule.operation, rule.permission_type) for rule in rules]
        for deleted in admin.delete_acls(filters).values():
            deleted.result()
