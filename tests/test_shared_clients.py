"""One ledger in several threads and in forked processes, over time: no answer is another's, and nothing waits without end."""

import gc
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import pytest

from core_tables.producer import Ledger, LedgerSettings
from core_tables.projection.postgres.connection import Connection, connect
from core_tables.projection.postgres.keys import RecordName
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.reads import Reads
from core_tables.projection.postgres.tenant_reads import rows_of_tenant
from core_tables.schemas.outcomes import Accepted, Replayed
from core_tables.schemas.reasons import (
    TENANT_SCOPE_VIOLATION,
    ClosedError,
    CoreTablesError,
    SetupError,
    UnavailableError,
)

from .builders import make
from .world import World, wait_until

pytestmark = pytest.mark.stack

TENANTS = [f"fork-{number}" for number in range(4)]
SECONDS = 2.0


@pytest.fixture(scope="module", autouse=True)
def _worker(world: World) -> Iterator[None]:
    with world.working():
        for tenant in TENANTS:
            assert world.outcome(make("WORK_ORDER_CREATED", tenant_id=tenant)) == Accepted()
        yield


@pytest.fixture
def ledger(world: World) -> Iterator[Ledger]:
    made = Ledger.connect(settings(world))
    yield made
    made.close()


def settings(world: World) -> LedgerSettings:
    return LedgerSettings(world.settings.kafka_servers(), world.settings.reader(), world.settings.topic)


def in_a_child(work: Callable[[], Any]) -> Callable[[], Any]:
    """Fork, and do something in the child; what is returned gives its result, or raises what it raised."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            # What other threads were making at the moment of the fork is half made: CPython's collector crashes on it.
            gc.freeze()
            os.close(reading)
            try:
                result: tuple[bool, Any] = (True, work())
            except BaseException as error:
                result = (False, f"{type(error).__name__}: {error}")
            with os.fdopen(writing, "wb") as sink:
                pickle.dump(result, sink)
        finally:
            os._exit(0)
    os.close(writing)

    def answer() -> Any:
        with os.fdopen(reading, "rb") as source:
            done, value = pickle.load(source)  # noqa: S301 - what our own child wrote
        os.waitpid(pid, 0)
        assert done, value
        return value

    return answer


def tenants_read(reads: Reads, tenant: str) -> dict[str, int]:
    """Read one tenant's record again and again, and count the tenants of the answers."""
    found: dict[str, int] = {}
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        record = reads.current(tenant, "order-1")
        name = "none" if record is None else record.tenant_id
        found[name] = found.get(name, 0) + 1
    return found


def test_forked_processes_that_share_a_ledger_read_their_own_tenants_alone(ledger: Ledger) -> None:
    """As a server does that loads its application, connects, and then forks its workers."""
    assert ledger.reads().current(TENANTS[0], "order-1") is not None
    children = [in_a_child(partial(tenants_read, ledger.reads(), tenant)) for tenant in TENANTS]
    parent = tenants_read(ledger.reads(), TENANTS[0])
    for tenant, child in zip(TENANTS, children, strict=True):
        found = child()
        assert found.keys() == {tenant}
        assert found[tenant] > 10
    assert parent.keys() == {TENANTS[0]}


def test_a_child_that_is_forked_while_threads_read_is_not_stuck(ledger: Ledger) -> None:
    """A lock that another thread held at the moment of the fork is never released in the child."""
    with ThreadPoolExecutor(4) as pool:
        reading = [pool.submit(tenants_read, ledger.reads(), tenant) for tenant in TENANTS]
        for _ in range(5):
            child = in_a_child(lambda: ledger.reads().current(TENANTS[1], "order-1") is not None)
            assert child()
        for tenant, done in zip(TENANTS, reading, strict=True):
            assert done.result().keys() == {tenant}


def test_a_forked_process_appends_and_awaits_with_connections_of_its_own(ledger: Ledger) -> None:
    event = make("FIELD_SET", tenant_id=TENANTS[2], idempotency_key="from-both")
    receipt = ledger.append(event)
    assert receipt.outcome(30) == Accepted()

    def again() -> tuple[int, bool, bool]:
        """What a child sees of its parent's receipt, and of an append of its own."""
        mine = ledger.append(event)
        replayed = mine.outcome(30) == Replayed(receipt.event_id(), request_differs=False)
        return receipt.event_id(), replayed, ledger.cancel(TENANTS[3], "order-1", 9, "once").outcome(30) == Accepted()

    assert in_a_child(again)() == (receipt.event_id(), True, True)
    assert ledger.append(event).outcome(30) == Replayed(receipt.event_id(), request_differs=False)


def test_a_receipt_without_an_answer_is_not_waited_for_in_a_forked_process(ledger: Ledger) -> None:
    def wait_for(receipt: Any) -> str:
        with pytest.raises(UnavailableError) as unknown:
            receipt.event_id()
        return str(unknown.value)

    receipt = ledger.append(make("FIELD_SET", tenant_id=TENANTS[0]))
    receipt.settle(None, None)  # whatever the broker answered meanwhile
    message = in_a_child(lambda: wait_for(receipt))()
    assert "the process that this one was forked from" in message


def test_threads_share_the_reads_of_a_ledger(ledger: Ledger) -> None:
    reads = ledger.reads()
    with ThreadPoolExecutor(20) as pool:
        for tenant, found in zip(5 * TENANTS, pool.map(tenants_read, 20 * [reads], 5 * TENANTS), strict=True):
            assert found.keys() == {tenant}


class LaneOnly(NamedTuple):
    """What read_pending.sql answers where a list is empty: a row of no tenant."""

    tenant_id: str | None


def test_an_answer_with_a_row_of_another_tenant_is_refused_whole() -> None:
    with pytest.raises(CoreTablesError) as refusal:
        rows_of_tenant("acme", [RecordName("acme", 1), RecordName("globex", 2)])
    assert refusal.value.reason_code == TENANT_SCOPE_VIOLATION
    assert "globex" not in str(refusal.value)
    rows: list[RecordName | LaneOnly] = [RecordName("acme", 1), LaneOnly(None)]
    assert rows_of_tenant("acme", rows) == rows


def test_processes_that_share_one_connection_all_the_same_are_shown_no_row_of_another_tenant(world: World) -> None:
    """As if nothing noticed the fork: both read from one socket, and each may get the answer to the other's question."""
    troubles = 0
    for _ in range(10):
        connection = connect(world.settings.reader(), name="test shared wrongly")
        children = [in_a_child(partial(misled, connection, tenant)) for tenant in TENANTS[:2]]
        for child in children:
            wrong, failed = child()
            assert wrong == 0
            troubles += failed
        connection.close()
    assert troubles, "nothing went wrong, so nothing was tested"


def misled(connection: Connection, tenant: str) -> tuple[int, int]:
    """Read over a given connection until that fails: how many answers were of another tenant, and whether it failed."""
    reads, wrong = Reads(ReadPool(lambda: connection)), 0
    end = time.monotonic() + 0.3
    try:
        while time.monotonic() < end:
            record = reads.until(time.monotonic() + 0.3).current(tenant, "order-1")
            wrong += record is not None and record.tenant_id != tenant
    except CoreTablesError:
        return wrong, 1
    return wrong, 0


def test_a_session_that_the_server_cut_is_opened_again(world: World, ledger: Ledger) -> None:
    reads = ledger.reads()
    for _ in range(3):
        assert reads.current(TENANTS[0], "order-1") is not None
        world.admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and application_name = 'core-tables outcomes'"
        )
        gone = (
            b"select count(*) from pg_stat_activity where datname = current_database() "
            b"and application_name = 'core-tables outcomes'"
        )
        wait_until(lambda gone=gone: world.admin.execute(gone).fetchall() == [(0,)], "the sessions to end")  # type: ignore[misc]


def test_a_session_that_is_cut_in_the_middle_of_an_answer_fails_once_and_shows_nothing(world: World) -> None:
    pool = ReadPool.connect(world.settings.reader(), "test cut")
    reads = Reads(pool)
    assert reads.current(TENANTS[0], "order-1") is not None

    def cut_in_the_middle() -> None:
        with pool.transaction() as pipeline:
            pipeline.add("set_tenant", TENANTS[0])
            pipeline.flush()
            world.admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'test cut'"
            )
            pipeline.add("read_current", TENANTS[0], "order-1")

    with pytest.raises(UnavailableError):
        cut_in_the_middle()
    record = reads.current(TENANTS[1], "order-1")
    assert record is not None
    assert record.tenant_id == TENANTS[1]
    reads.close()


def test_more_threads_than_connections_wait_for_one_and_no_longer_than_their_deadline(world: World) -> None:
    pool = ReadPool.connect(world.settings.reader(), "test small pool", size=1)
    reads = Reads(pool)
    lent, give_back = threading.Event(), threading.Event()

    def hold() -> None:
        with pool.transaction():
            lent.set()
            give_back.wait(30)

    with ThreadPoolExecutor(2) as threads:
        holding = threads.submit(hold)
        lent.wait(30)
        with pytest.raises(UnavailableError, match="all 1 connections for reads are in use"):
            reads.until(time.monotonic() + 0.2).current(TENANTS[0], "order-1")
        waiting = threads.submit(reads.current, TENANTS[0], "order-1")
        give_back.set()
        assert waiting.result(30) is not None
        holding.result(30)
    reads.close()


def test_what_is_closed_says_so_before_anything_is_sent(world: World) -> None:
    ledger = Ledger.connect(settings(world))
    reads = ledger.reads()
    ends = world.log_ends()
    ledger.close()
    for use in (
        lambda: ledger.append(make("FIELD_SET", tenant_id=TENANTS[0])),
        lambda: ledger.cancel(TENANTS[0], "order-1", 9, "key"),
        ledger.reads,
        lambda: reads.current(TENANTS[0], "order-1"),
    ):
        with pytest.raises(ClosedError, match="closed"):
            use()
    assert world.log_ends() == ends


def test_a_ledger_without_a_database_knows_where_a_record_is_and_not_its_id(world: World) -> None:
    """Its topic may be a later one: then the id that the first topic would have is another record's."""
    ledger = Ledger.connect(LedgerSettings(world.settings.kafka_servers(), topic=world.settings.topic))
    receipt = ledger.append(make("FIELD_SET", tenant_id=TENANTS[0]))
    partition, offset = receipt.place()
    assert offset == world.log_ends()[partition] - 1
    with pytest.raises(SetupError, match="postgres_dsn"):
        receipt.event_id()
    ledger.close()
