"""Rebuild while workers fold and readers read, killed in the middle, and after a change of the fold."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from core_tables.cli import output, wiring
from core_tables.projection.fold.evolve import FOLD_VERSION
from core_tables.projection.fold.evolve import evolve as real_evolve
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.connection import connect
from core_tables.projection.verify import repair
from core_tables.projection.verify.facts import PAGE_SIZE
from core_tables.projection.verify.report import Report, Scope
from core_tables.schemas.events import LedgerEvent
from tests.builders import START, make
from tests.oracle import check_everything
from tests.world import World, wait_until

from .dying_rebuild import POINTS
from .dying_worker import DIED

pytestmark = pytest.mark.stack

TENANTS = 12
ORDERS = 60  # of each tenant: several chunks in all
DRIFT = (
    "update os_core.work_orders_current set turn_id = 999, work_order_status = 'CLARIFY' where tenant_id like 'rest-%'",
    "update os_core.work_order_step_attempts set reason_code = 999 where tenant_id like 'rest-%'",
    "update os_core.work_order_leases set lease_token_hash = 'drifted' where tenant_id like 'rest-%'",
)
ONE_RECORD = """
    select
        (select turn_id = 999 from os_core.work_orders_current
         where tenant_id = %(tenant)s and work_order_id = %(order)s),
        (select reason_code = 999 from os_core.work_order_step_attempts
         where tenant_id = %(tenant)s and work_order_id = %(order)s),
        (select lease_token_hash = 'drifted' from os_core.work_order_leases
         where tenant_id = %(tenant)s and work_order_id = %(order)s)
"""


def resting() -> list[LedgerEvent]:
    """Work orders that have a row in each table, and that nobody changes any more."""
    kinds = ("WORK_ORDER_CREATED", "STEP_STARTED", "LEASE_ACQUIRED")
    return [
        make(kind, tenant_id=f"rest-{tenant}", work_order_id=f"order-{order}", turn_id=turn)  # type: ignore[arg-type]
        for tenant in range(TENANTS)
        for order in range(ORDERS)
        for turn, kind in enumerate(kinds, start=1)
    ]


def drift(world: World) -> None:
    for statement in DRIFT:
        world.admin.execute(statement.encode())


def rebuild(world: World) -> Report:
    connection = connect(world.settings.worker(), name="test rebuild")
    try:
        return repair.rebuild(connection, Scope(), cache=wiring.cache(world.settings, connection))
    finally:
        connection.close()


class PollingReader:
    """Reads resting records whole, each in one snapshot, and living ones one after the other."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: list[tuple[Any, ...]] = []
        self.fell_back: list[tuple[int, int]] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.errors: list[BaseException] = []

    def run(self) -> None:
        try:
            self.poll()
        except BaseException as error:
            self.errors.append(error)

    def poll(self) -> None:
        reads, newest = wiring.reads(self.world.settings), 0
        with psycopg.connect(self.world.settings.reader(), autocommit=True) as connection:
            number = 0
            while not self.ended.is_set():
                number += 1
                tenant, order = f"rest-{number % TENANTS}", f"order-{number % ORDERS}"
                with connection.transaction():
                    connection.execute("select set_config('core_tables.tenant_id', %s, true)", (tenant,))
                    row = connection.execute(ONE_RECORD, {"tenant": tenant, "order": order}).fetchone()
                self.seen.append(row or ())
                living = reads.current("live-1", "order-1")
                at = -1 if living is None else living.last_event_id
                if at < newest:
                    self.fell_back.append((newest, at))
                newest = max(newest, at)
        reads.close()


@contextmanager
def load(world: World) -> Iterator[list[int]]:
    """Events for living work orders of the same lanes, as long as the block lasts; yields what was appended."""
    ended = threading.Event()
    appended: list[int] = []

    def run() -> None:
        while not ended.is_set():
            tenant = f"live-{len(appended) % 24}"
            world.append(make("FIELD_SET", tenant_id=tenant, turn_id=len(appended) + 1))
            appended.append(1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield appended
    finally:
        ended.set()
        thread.join()


def test_readers_never_see_a_mixed_or_missing_record_while_everything_is_rebuilt(fresh: World) -> None:
    fresh.append(*resting())
    fresh.append(make("WORK_ORDER_CREATED", tenant_id="live-1"))
    with fresh.working():
        fresh.drain()
        drift(fresh)
        reader = PollingReader(fresh)
        reader.thread.start()
        with load(fresh) as appended:
            wait_until(lambda: len(reader.seen) > 50 and len(appended) > 20, "readers and load to be under way")
            report = rebuild(fresh)
            before = len(reader.seen)
            wait_until(lambda: len(reader.seen) > before + TENANTS * ORDERS, "everything to be read once more")
        reader.ended.set()
        reader.thread.join()
        fresh.drain()
    assert reader.errors == []
    assert report.repaired == TENANTS * ORDERS
    assert set(reader.seen) == {(True, True, True), (False, False, False)}, "all of a record changes at once"
    assert set(reader.seen[before + 1 :]) == {(False, False, False)}
    assert reader.fell_back == [], "no reader was shown an older record than before"
    check_everything(fresh, 3 * TENANTS * ORDERS + 1 + len(appended))


@pytest.mark.parametrize("point", POINTS)
def test_a_rebuild_that_is_killed_loses_nothing_and_a_second_one_goes_on(fresh: World, point: str) -> None:
    fresh.append(*resting())
    with fresh.working():
        fresh.drain()
        drift(fresh)
        for tenant in range(TENANTS):  # lists that hold what drifted: a repair must take them away
            query = PendingQuery(f"rest-{tenant}", "ada", START)
            wait_until(lambda query=query: fresh.reads.pending(query).from_cache, "the cache to answer")  # type: ignore[misc]
        command = [sys.executable, "-m", "tests.faults.dying_rebuild", point, "1"]
        root = Path(__file__).parent.parent.parent
        died = subprocess.run(
            command, env=fresh.environment(), cwd=root, stdout=subprocess.DEVNULL, timeout=60, check=False
        )
        assert died.returncode == DIED
        again = fresh.command("rebuild", "--json")
        assert again.returncode == 0, again.stderr
        report = json.loads(again.stdout)
        assert report["compared"] == TENANTS * ORDERS
        assert report["equal"] == PAGE_SIZE, "what was committed before the death is done"
        assert report["repaired"] == TENANTS * ORDERS - PAGE_SIZE, "the second run continues"
        wait_until(lambda: fresh.verify().differences == [], "rows and cache to be right")
        fresh.append(*(make("FIELD_SET", tenant_id=f"rest-{tenant}") for tenant in range(TENANTS)))
        fresh.drain()
    check_everything(fresh, 3 * TENANTS * ORDERS + TENANTS)


@pytest.mark.parametrize("point", ["while_replacing", "before_commit", "before_telling_redis"])
def test_a_rebuild_process_that_sleeps_lets_workers_go_on_and_wakes_to_a_sentence_or_goes_on(
    fresh: World, point: str
) -> None:
    """SIGSTOP leaves its session open, and the lanes' rows locked, until the server ends the transaction."""
    held = point != "before_telling_redis"  # where the chunk is committed, nothing is
    total = TENANTS * ORDERS
    fresh.append(*resting())
    with fresh.working() as running:
        fresh.drain()
        drift(fresh)
        command = [sys.executable, "-m", "tests.faults.sleeping_rebuild", point, "1"]
        root = Path(__file__).parent.parent.parent
        process = subprocess.Popen(command, env=fresh.environment(), cwd=root, stderr=subprocess.PIPE)
        try:
            wait_until(lambda: sleeps(process), f"the rebuild to stop {point}")
            free = fresh.admin.execute("select from os_core.lanes for update skip locked").fetchall()
            assert (len(free) < 12) == held
            fresh.append(
                *(make("WORK_ORDER_CREATED", tenant_id=f"rest-{n}", work_order_id="z") for n in range(TENANTS))
            )
            fresh.drain()
            assert sleeps(process), "the workers continued without it"
            process.send_signal(signal.SIGCONT)
            message = process.communicate(timeout=60)[1].decode()
        finally:
            process.kill()
            process.wait()
        assert process.returncode == (output.EXIT_POSTGRES if held else output.EXIT_OK), message
        assert ("Postgres does not answer as it should" in message) == held
        again = json.loads(fresh.command("rebuild", "--json").stdout)
        repaired = total - PAGE_SIZE if held else 0
        assert (again["compared"], again["repaired"]) == (total + TENANTS, repaired), "a second run continues"
    assert running.errors == []
    check_everything(fresh, 3 * total + TENANTS)


def sleeps(process: "subprocess.Popen[bytes]") -> bool:
    """Whether a child of ours is stopped by a signal."""
    return os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None


def test_a_repair_that_dies_before_it_tells_redis_is_noticed_by_the_worker(fresh: World) -> None:
    """The nonce carries the epoch: the worker forgets the lists of before the repair, whichever process died."""
    fresh.append(make("WORK_ORDER_CREATED", tenant_id="rest-1", work_order_id="order-1"))
    query = PendingQuery("rest-1", "ada", START)
    with fresh.working():
        fresh.drain()
        fresh.admin.execute("update os_core.work_orders_current set intent_type = 'DRIFTED'")
        wait_until(lambda: fresh.reads.pending(query).from_cache, "the cache to answer")
        assert fresh.reads.pending(query).offers[0].intent_type == "DRIFTED"
        command = [sys.executable, "-m", "tests.faults.dying_rebuild", "before_telling_redis", "0"]
        subprocess.run(
            command, env=fresh.environment(), cwd=Path(__file__).parent.parent.parent, timeout=60, check=False
        )

        def cached_as_it_is() -> bool:
            answer = fresh.reads.pending(query)  # of Postgres, if the cache is too slow: that says nothing of the list
            return answer.from_cache and answer.offers[0].intent_type == "BOOK"

        wait_until(cached_as_it_is, "the stale list to be forgotten")
        assert fresh.verify().differences == []


def test_a_scope_is_rebuilt_alone_and_told_with_its_rate(fresh: World) -> None:
    fresh.append(*resting())
    with fresh.working():
        fresh.drain()
    drift(fresh)
    order = fresh.command("rebuild", "--tenant", "rest-1", "--work-order", "order-1").stdout.decode()
    assert "1 work orders compared, 0 equal, 1 repaired (3 events, " in order
    tenant = fresh.command("rebuild", "--tenant", "rest-1").stdout.decode()
    assert f"{ORDERS} work orders compared, 1 equal, {ORDERS - 1} repaired ({3 * ORDERS} events, " in tenant
    assert "events/s)" in order
    assert "events/s)" in tenant
    assert len({found[:2] for found in fresh.verify().differences}) == (TENANTS - 1) * ORDERS, (
        "the others are untouched"
    )


def test_a_new_fold_shows_what_it_would_change_before_it_changes_it(
    fresh: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.append(make("WORK_ORDER_CREATED"), make("WORK_ORDER_CREATED", work_order_id="order-2"))
    with fresh.working():
        fresh.drain()
    assert fresh.verify().fold_versions == (FOLD_VERSION,)

    def evolve(state: Any, event: LedgerEvent, event_id: int) -> Any:
        after = real_evolve(state, event, event_id)
        return replace(after, confirmation_state="PENDING") if event.work_order_id == "order-2" else after

    for module in ("verify.tables", "fold.batch", "postgres.ledger_reads"):
        monkeypatch.setattr(f"core_tables.projection.{module}.evolve", evolve)
    monkeypatch.setattr(repair, "FOLD_VERSION", FOLD_VERSION + 1)
    monkeypatch.setattr("core_tables.consumer.lifecycle.FOLD_VERSION", FOLD_VERSION + 1)
    report = fresh.verify()
    assert [(found.work_order_id, found.what) for found in report.differences] == [
        ("order-2", "differs in confirmation_state")
    ]
    assert report.fold_versions == (FOLD_VERSION,), "nothing was changed"
    with fresh.working() as running:
        wait_until(lambda: len(running.log_lines("other_fold_version")) == 12, "the worker to say so of each lane")
        assert rebuild(fresh).repaired == 1
        assert fresh.verify().fold_versions == (FOLD_VERSION + 1,)
        assert fresh.verify().differences == []
