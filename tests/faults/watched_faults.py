"""Faults of a real worker and its servers, one after the other, and the alerts that a real Prometheus raises for each."""

import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from core_tables.consumer.audit_emitter import AuditEmitter
from core_tables.schemas.identity import partition_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import UnavailableError, stop_cause
from tests.builders import make, tenant_of_another_lane
from tests.metric_tables import of_lanes, samples, scrape
from tests.prometheus import Watched
from tests.world import RunningWorker, wait_until

from .standstill import standing_still

# The lane of a partition that no tenant of the test is in.
FREE = partition_of(tenant_of_another_lane(partition_of(b"acme", 12)).encode(), 12)


def differing_rows(seen: Watched) -> None:
    """Something other than a worker changed the tables."""
    seen.world.admin.execute("update os_core.work_orders_current set turn_id = turn_id + 1")
    seen.raises("Drift")
    seen.world.admin.execute("update os_core.work_orders_current set turn_id = turn_id - 1")
    seen.quiet()


def open_transaction(seen: Watched) -> None:
    """A stranger holds a transaction open on the ledger topic."""
    servers = {"bootstrap.servers": seen.world.settings.kafka_servers()}
    stranger = Producer({**servers, "transactional.id": f"{seen.world.name}.x"})
    stranger.init_transactions(20)
    stranger.begin_transaction()
    stranger.produce(seen.world.settings.topic, b"x", b"acme", FREE)
    stranger.flush(20)
    seen.raises("OpenTransaction")
    stranger.abort_transaction(20)
    seen.quiet()


def no_cache(seen: Watched, folder: Path, running: RunningWorker) -> None:
    """Redis is suspended."""
    with standing_still(folder, "redis"):
        assert seen.world.outcome(make("FIELD_SET")) == Accepted()
        seen.raises("CacheDown")
        assert running.probes.alive().ok
        assert running.probes.ready().ok, "pending lists come from Postgres"
    seen.quiet()
    wait_until(lambda: running.log_lines("cache_answers"), "the cache to be used again")


def no_database(seen: Watched, folder: Path, running: RunningWorker) -> None:
    """Postgres is suspended."""
    with standing_still(folder, "postgres"):
        seen.raises("Behind", "MonitorBlind")
        assert running.probes.alive().ok
        assert states_of(running) <= {"waiting", "audit_waiting"}
    seen.quiet()
    wait_until(lambda: running.probes.ready().ok, "the worker to be ready again")


def stopped_lane(seen: Watched, running: RunningWorker) -> None:
    """The log is shorter than what was folded."""
    seen.world.admin.execute("update os_core.lanes set applied = 5, audited = 5 where lane = %s", (FREE,))
    seen.raises("LaneStopped")
    stopped = running.worker.lanes[FREE].stopped
    assert stopped is not None
    assert stop_cause(stopped) == "records_lost"


def full_audit_queue(seen: Watched, running: RunningWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each transaction of the audit fails, as if the broker did not answer in time; one that hangs would hold the fold, too."""

    def fail(*_: object) -> None:
        raise UnavailableError("kafka", "planted")

    with monkeypatch.context() as patch:
        patch.setattr(AuditEmitter, "_begin", fail)
        receipts = seen.world.append(*(make("FIELD_SET") for _ in range(40)))
        seen.raises("Paused")
        assert states_of(running) == {"paused", "audit_waiting"}
        assert running.probes.alive().ok
    assert {receipt.outcome(60) for receipt in receipts} == {Accepted()}
    seen.quiet()
    wait_until(lambda: running.probes.ready().ok, "the worker to be ready again")


def dead_audit(seen: Watched, running: RunningWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a thread ends that the machine has no memory for."""

    def end(*_: object, **__: object) -> int:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(AuditEmitter, "step", end)
        seen.raises("ThreadStands")
    assert not running.probes.alive().ok


def no_broker(seen: Watched, folder: Path, running: RunningWorker) -> None:
    """Kafka is suspended for longer than the session of a worker."""
    with standing_still(folder, "kafka"):
        stopped_at = time.monotonic()
        wait_until(lambda: time.monotonic() > stopped_at + 3, "some time to pass")
        at_least = time.monotonic() - stopped_at
        behind = of_lanes(samples(scrape(seen.collector), "core_tables_lane_behind_seconds"))
        assert len(behind) == 12
        assert min(behind.values()) >= at_least, "what is not known since then is not called folded"
        wait_until(lambda: states_of(running) == {"lost", "topics_unknown"}, "the lanes to be lost", 60)
        assert running.probes.alive().ok
        seen.raises("LaneUnowned", "MonitorBlind")
    wait_until(lambda: running.probes.ready().ok, "the worker to be ready again", 180)
    assert seen.world.outcome(make("FIELD_SET")) == Accepted()


def states_of(running: RunningWorker) -> set[str]:
    """Why a worker is not ready."""
    return {problem["state"] for problem in running.probes.ready().body["problems"]}
