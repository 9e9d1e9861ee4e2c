"""Servers that are killed, restarted, full or read-only, under load."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from core_tables.deploy import stack as local_stack
from core_tables.deploy.parts import PartName
from core_tables.projection.pending import PendingQuery
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import SetupError
from tests.builders import START, make
from tests.test_crashes import check_everything, day
from tests.world import World, new_world, wait_until

from .conftest import Recovery

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A local stack of this module's own, whose parts may be killed."""
    path = tmp_path_factory.mktemp("faulty")
    try:
        local_stack.up(path, print)
        yield path
    finally:
        local_stack.down(path, print, wipe=True)


@pytest.fixture
def fresh(folder: Path) -> World:
    """A world of one test's own on that stack."""
    return new_world(local_stack.up(folder, print))


@pytest.mark.parametrize(
    ("part", "with_signal"),
    [("kafka", signal.SIGKILL), ("postgres", signal.SIGQUIT), ("redis", signal.SIGKILL)],
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


@pytest.mark.parametrize(
    "trouble",
    [{"maxmemory": "1", "maxmemory-policy": "noeviction"}, {"min-replicas-to-write": "1"}],
    ids=["maxmemory full", "read-only"],
)
def test_a_cache_that_takes_no_writes_costs_misses_only(fresh: World, trouble: dict[str, str]) -> None:
    client = redis.Redis.from_url(fresh.stack.redis_url, decode_responses=True)
    usual = {name: str(client.config_get(name)[name]) for name in trouble}
    query = PendingQuery("acme", "ada", START)
    with fresh.working():
        assert fresh.outcome(make("WORK_ORDER_CREATED")) == Accepted()
        for name, value in trouble.items():
            client.config_set(name, value)
        try:
            assert fresh.outcome(make("WORK_ORDER_CREATED", work_order_id="order-2")) == Accepted()
            answer = fresh.reads.pending(query)
            assert [offer.record.work_order_id for offer in answer.offers] == ["order-1", "order-2"]
        finally:
            for name, value in usual.items():
                client.config_set(name, value)
        wait_until(lambda: fresh.reads.pending(query).from_cache, "the cache to serve again")
    assert [offer.record.work_order_id for offer in fresh.reads.pending(query).offers] == ["order-1", "order-2"]


def test_ledger_records_that_were_deleted_stop_their_lane(fresh: World) -> None:
    from confluent_kafka import TopicPartition

    from core_tables.cli import wiring

    fresh.append(*day(300))
    admin = wiring.admin_client(fresh.settings)
    victim = max(fresh.log_ends().items(), key=lambda entry: entry[1])[0]
    for future in admin.delete_records([TopicPartition(fresh.settings.topic, victim, 5)]).values():
        future.result()
    with fresh.working() as running:
        lane = wait_until(lambda: running.worker.lanes.get(victim), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
    assert "the log begins at offset 5" in cause.sentence


@pytest.mark.parametrize("which", ["topic", "audit_topic"])
def test_a_topic_that_is_deleted_and_made_again_is_refused(fresh: World, which: str) -> None:
    from core_tables.cli import wiring
    from core_tables.deploy.topics import create_topics

    with fresh.working():
        fresh.append(*day(50))
        fresh.drain()
    admin, name = wiring.admin_client(fresh.settings), getattr(fresh.settings, which)
    for future in admin.delete_topics([name]).values():
        future.result()
    wait_until(lambda: create_topics(admin, [name], 12, 1), "the topic to be made again")
    with pytest.raises(SetupError, match="deleted and made again"), fresh.working():
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
    assert all("permission denied for table work_order_ledger" in cause for cause in causes), causes
    fresh.admin.execute("grant insert on os_core.work_order_ledger to core_tables_worker")
    with recovery("a permission taken away and given back"), fresh.working():
        fresh.drain()
    check_everything(fresh, 200)
