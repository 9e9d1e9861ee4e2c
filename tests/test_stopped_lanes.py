"""What a worker must not go on after: the lane stops with position and cause, and nothing is skipped."""

import pytest

from core_tables.projection.fold import fold_batch
from core_tables.schemas.identity import partition_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import LaneStoppedError, SetupError, UnknownSchemaError
from core_tables.schemas.wire import encode_event

from .builders import make
from .world import World, new_world, wait_until

pytestmark = pytest.mark.stack

ACME = partition_of(b"acme", 12)
UNKNOWN = b"\xc3\x01" + b"\x01\x02\x03\x04\x05\x06\x07\x08" + b"body of a later release"


@pytest.fixture
def fresh(world: World) -> World:
    """A world of one test's own."""
    return new_world(world.stack)


def test_an_unknown_schema_stops_its_lane_and_no_other(fresh: World) -> None:
    fresh.produce(b"acme", encode_event(make("FIELD_SET")), ACME)
    stop = fresh.produce(b"acme", UNKNOWN, ACME)
    fresh.produce(b"acme", encode_event(make("FIELD_SET")), ACME)
    other = next(t for t in (f"t{i}" for i in range(99)) if partition_of(t.encode(), 12) != ACME)
    with fresh.working() as running:
        assert fresh.outcome(make("FIELD_SET", tenant_id=other)) == Accepted()
        lane = wait_until(lambda: running.worker.lanes.get(ACME), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
        assert isinstance(cause, UnknownSchemaError)
        assert f"offset {stop}" in cause.sentence
        assert "0102030405060708" in cause.sentence
        assert fresh.positions()[ACME][0] == stop, "what lies before it is folded, and nothing behind it"


def test_a_worker_whose_lanes_have_all_stopped_ends_with_the_cause(fresh: World) -> None:
    single = new_world(fresh.stack, partitions=1)
    single.produce(b"acme", UNKNOWN, 0)
    with single.working() as running:
        running.thread.join(30)
    assert isinstance(running.errors[0], UnknownSchemaError)


def test_a_fold_that_raises_stops_its_lane_and_no_other(fresh: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(records: object, loaded: object) -> object:
        found = list(records)  # type: ignore[call-overload]
        if any(getattr(getattr(record.content, "event", None), "turn_id", 0) == 666 for record in found):
            raise ZeroDivisionError("a defect")
        return fold_batch(found, loaded)  # type: ignore[arg-type]

    monkeypatch.setattr("core_tables.consumer.worker.fold_batch", broken)
    other = next(t for t in (f"t{i}" for i in range(99)) if partition_of(t.encode(), 12) != ACME)
    fresh.append(make("FIELD_SET", turn_id=666), make("FIELD_SET", tenant_id=other))
    with fresh.working() as running:
        lane = wait_until(lambda: running.worker.lanes.get(ACME), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
        assert "ZeroDivisionError" in cause.sentence
        wait_until(lambda: fresh.positions()[partition_of(other.encode(), 12)][0] == 1, "the other lane to be folded")
        assert fresh.positions()[ACME][0] == 0


def test_a_topic_that_was_made_again_is_refused_at_the_start(fresh: World) -> None:
    fresh.admin.execute("update os_core.work_order_topics set topic_id = 'of another topic'")
    with pytest.raises(SetupError, match="deleted and made again"), fresh.working():
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
    assert "lost records" in cause.sentence


def test_a_ledger_row_that_is_missing_below_applied_stops_the_lane(fresh: World) -> None:
    fresh.append(make("FIELD_SET"))
    fresh.admin.execute("update os_core.lanes set applied = 1 where lane = %s", (ACME,))
    with fresh.working() as running:
        lane = wait_until(lambda: running.worker.lanes.get(ACME), "the lane to be assigned")
        cause = wait_until(lambda: lane.stopped, "the lane to stop")
    assert "no outcome" in cause.sentence


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
    assert "audit topic" in cause.sentence


@pytest.mark.parametrize(("setting", "value"), [("cleanup.policy", "compact"), ("retention.ms", "86400000")])
def test_a_topic_that_would_lose_records_is_refused(fresh: World, setting: str, value: str) -> None:
    fresh.set_topic(fresh.settings.audit_topic, setting, value)
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
