"""Something is down: the worker reopens for as long as it takes, and the end is the same."""

from collections.abc import Sequence

import psycopg
import pytest

from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.projection.fold.needs import Known
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.fold.values import Loaded, Record
from core_tables.projection.postgres.keys import Move
from core_tables.projection.postgres.store import Store
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import UnavailableError

from .builders import START, day, make
from .oracle import check_everything
from .world import World, wait_until

pytestmark = pytest.mark.stack


def test_backends_terminated_in_the_middle_of_a_statement_cost_nothing_but_time(fresh: World) -> None:
    """A lock of somebody else's holds the worker in its insert: there its session is ended."""
    kill = (
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
        "and usename = 'core_tables_worker' and state = 'active' and wait_event_type = 'Lock'"
    )
    with fresh.working(batch_size=100) as running:
        for part in range(4):
            with psycopg.connect(fresh.settings.admin()) as other:
                other.execute("lock table os_core.work_order_ledger in share row exclusive mode")
                fresh.append(*day(600, seed=part))
                wait_until(lambda: fresh.admin.execute(kill).fetchall(), "the worker to wait in its statement")
                other.rollback()
        fresh.drain(120)
    assert running.log_lines("lane_reopens")
    check_everything(fresh, 2400)


def test_a_postgres_that_is_too_slow_for_a_full_batch_is_given_smaller_ones(
    fresh: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Store.begin

    def slow(store: Store, moves: Sequence[Move], records: Sequence[Record], known: Known) -> tuple[set[int], Loaded]:
        if len(records) > 100:
            raise UnavailableError("postgres", "planted: the transaction would take too long")
        return begin(store, moves, records, known)

    monkeypatch.setattr(Store, "begin", slow)
    fresh.append(*day(2000))
    with fresh.working() as running:
        fresh.drain(60)
    assert running.log_lines("lane_reopens")
    check_everything(fresh, 2000)


def test_a_lost_cache_costs_misses_only(fresh: World) -> None:
    import redis

    client = redis.Redis.from_url(fresh.stack.redis_url)
    with fresh.working():
        assert fresh.outcome(make("WORK_ORDER_CREATED")) == Accepted()
        query = PendingQuery("acme", "ada", START)
        expected = fresh.reads.pending(query).offers
        for forget in (client.flushall, client.script_flush):
            forget()
            assert fresh.reads.pending(query).offers == expected
            assert fresh.outcome(make("FIELD_SET", tenant_id="other")) == Accepted()
        wait_until(lambda: fresh.reads.pending(query).from_cache, "the cache to be filled again")
        assert fresh.reads.pending(query).offers == expected


def test_no_cache_at_all_only_slows_the_pending_list(fresh: World) -> None:
    fresh.settings = fresh.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with fresh.working():
        assert fresh.outcome(make("WORK_ORDER_CREATED")) == Accepted()
        answer = fresh.reads.pending(PendingQuery("acme", "ada", START))
        assert [offer.work_order_id for offer in answer.offers] == ["order-1"]
        assert not answer.from_cache


@pytest.mark.parametrize("patience_s", [0.0, WorkerSettings.audit_patience_s])
def test_a_full_audit_queue_holds_the_fold_and_nothing_is_lost(fresh: World, patience_s: float) -> None:
    """Without patience fetching is paused, again and again; with it, the fold waits for the audit thread."""
    fresh.append(*day(3000))
    with fresh.working(batch_size=100, audit_patience_s=patience_s, audit_queue_size=150):
        fresh.drain(120)
    check_everything(fresh, 3000)


def test_a_second_fleet_without_audit_fills_an_empty_database_from_the_topic(fresh: World) -> None:
    fresh.append(*day(2000))
    with fresh.working():
        fresh.drain()
    tables = (
        "work_order_ledger",
        "work_order_outcomes",
        "work_orders_current",
        "work_order_step_attempts",
        "work_order_leases",
    )
    expected = {table: fresh.rows(table) for table in tables}
    audits = fresh.audit_events()
    second = World.__new__(World)
    second.__dict__.update(fresh.__dict__)
    name = f"{fresh.name}_again"
    fresh.admin.execute(f"create database {name}".encode())
    dsn = fresh.settings.admin().replace(f"dbname={fresh.name}", f"dbname={name}")
    second.settings = fresh.settings.model_copy(update={"postgres_dsn": dsn, "group_id": name, "redis_url": "none"})
    second.reconnect()
    second.init()
    with second.working(audit=False):
        ends = second.log_ends()
        wait_until(
            lambda: {lane: applied for lane, (applied, _) in second.positions().items()} == ends,
            "the lanes to be folded",
        )
    assert {table: second.rows(table) for table in tables} == expected
    assert fresh.audit_events() == audits, "no audit event was written again"
    with second.working():
        second.append(*day(100, seed=7))
        second.drain()
    check_everything(second, sum(second.log_ends().values()))


def test_an_append_that_gets_no_answer_is_unknown_not_failed() -> None:
    from core_tables.producer import Ledger, LedgerSettings

    nowhere = Ledger.connect(LedgerSettings("127.0.0.1:1", kafka={"delivery.timeout.ms": "1000", "log_level": "0"}))
    receipt = nowhere.append(make("FIELD_SET", idempotency_key="k"))
    with pytest.raises(UnavailableError, match=r"not known.*same idempotency key"):
        receipt.event_id(10)
    keyless = nowhere.append(make("FIELD_SET"))
    with pytest.raises(UnavailableError, match="no idempotency key"):
        keyless.event_id(10)
    nowhere.close()
