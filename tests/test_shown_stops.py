"""What `status` says of a lane that stopped, for how long it is kept, and how a lane gets past its stop."""

import json
from typing import Any

import pytest
from confluent_kafka import Producer

from core_tables.cli.output import EXIT_CLIENT, EXIT_TOPIC, exit_code
from core_tables.projection.postgres.store import Store
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import FatalClientError, SetupError, UnavailableError

from .builders import make, tenant_of_another_lane
from .world import World, wait_until

pytestmark = pytest.mark.stack

ACME = partition_of(b"acme", 12)
LATER = "0102030405060708"
UNKNOWN = b"\xc3\x01" + bytes.fromhex(LATER) + b"body of a later release"


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
        running.has_stopped(ACME, "record")
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
