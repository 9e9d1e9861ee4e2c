"""What every program would write for itself: waiting for a record, everything due, the loop of a step, a lease in asyncio."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from zlib import crc32

import pytest

from core_tables import (
    Accepted,
    AsyncHeldLease,
    AsyncLedger,
    CurrentRecord,
    DueRetry,
    GrantedLease,
    HeldLease,
    LeaseNotHeldError,
    Ledger,
    LedgerSettings,
    Reads,
    Refused,
    RetryPolicy,
    SetupError,
    StepNotDoneError,
    TimedOutStep,
    run_step,
    run_step_async,
)
from core_tables.producer.record_wait import RecordWait
from core_tables.schemas.reasons import LEASE_HELD_BY_OTHER, LEASE_NOT_FOUND

from .builders import HOUR, START, make
from .world import World, wait_until

pytestmark = pytest.mark.stack

TENANT = "helped"
TTL = timedelta(seconds=3)
POLICY = RetryPolicy(max_retries=2, backoff=timedelta(milliseconds=1), reason_code=1, failure_reason_code=77)


@pytest.fixture(scope="module")
def ledger(world: World) -> Iterator[Ledger]:
    with Ledger.connect(LedgerSettings.of(world.settings)) as made, world.working():
        yield made


def correlation_of(order_id: str) -> int:
    return crc32(order_id.encode()) + 1


@pytest.fixture
def order_id(ledger: Ledger, request: pytest.FixtureRequest) -> str:
    """A work order that executes, of the test's own."""
    name: str = request.node.name
    order = ledger.work_order(TENANT, name, reason_code=1)
    created = order.create(correlation_id=correlation_of(name), requester_user_id="ada", status="EXECUTING")
    assert created.outcome(30) == Accepted()
    return name


def statuses(ledger: Ledger, order_id: str) -> list[str]:
    """What became of the attempts of a work order, in their order."""
    return [attempt.status for attempt in ledger.reads().attempts(TENANT, order_id)]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Has an item for each look at a record that is waited for."""
    found: list[None] = []
    look = RecordWait.look

    def counted(wait: RecordWait) -> bool:
        found.append(None)
        return look(wait)

    monkeypatch.setattr(RecordWait, "look", counted)
    return found


def test_a_status_is_waited_for_and_who_waits_looks_only_when_it_is_woken(
    ledger: Ledger, order_id: str, looks: list[None]
) -> None:
    assert ledger.wait_for_status(TENANT, order_id, {"DONE"}, timeout=0.3) is None
    assert len(looks) <= 3, "nothing was folded, and it looked all the same"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.wait_for_status, TENANT, order_id, {"DONE", "FAILED"}, 30)
        wait_until(lambda: len(looks) > 3, "the first look")
        ledger.work_order(TENANT, order_id, reason_code=1).change_status("DONE", idempotency_key="done")
        record = waiting.result(30)
    assert record is not None
    assert record.work_order_status == "DONE"
    assert ledger.wait_for_status(TENANT, order_id, {"DONE"}, timeout=30) == record
    assert ledger.wait_for_status(TENANT, "nobody", {"DONE"}, timeout=0) is None


def test_a_wait_survives_the_end_of_its_sessions(
    world: World, ledger: Ledger, order_id: str, looks: list[None]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.wait_for_status, TENANT, order_id, {"DONE"}, 30)
        wait_until(lambda: looks, "the first look")
        world.admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
            "and application_name in ('core-tables outcomes', 'core-tables listener')"
        )
        # The event says only what is known here, so nothing is read for it: a read may meet a session that ended.
        order = ledger.work_order(TENANT, order_id, correlation_id=correlation_of(order_id), turn_id=1, reason_code=1)
        order.change_status("DONE", idempotency_key="done")
        record = waiting.result(30)
    assert record is not None
    assert record.work_order_status == "DONE"


def test_many_tasks_wait_for_records_and_no_thread_waits_with_them(ledger: Ledger, order_id: str) -> None:
    def is_answered(record: CurrentRecord) -> bool:
        return record.external_approval_decision == "APPROVED"

    async def work() -> list[CurrentRecord | None]:
        shared = AsyncLedger(ledger)
        order = shared.work_order(TENANT, order_id, reason_code=1)
        waits = [asyncio.create_task(shared.wait_until(TENANT, order_id, is_answered, 30)) for _ in range(50)]
        await order.request_approval("r", target_user_id="boss", expires_at=START)
        assert await shared.wait_for_status(TENANT, order_id, {"DONE"}, timeout=0.05) is None
        most = sum(thread.name.startswith("core-tables reads") for thread in threading.enumerate())
        assert most <= 4
        await order.resolve_approval("r", decision="APPROVED")
        return await asyncio.gather(*waits)

    records = asyncio.run(work())
    assert {record.work_order_id if record else "none" for record in records} == {order_id}


def test_everything_due_is_found_over_all_tenants(fresh: World) -> None:
    for tenant in ("one", "two"):
        of: dict[str, Any] = {"tenant_id": tenant}
        fresh.append(make("STEP_STARTED", **of, step_id="slow"), make("STEP_RETRY_SCHEDULED", **of, step_id="again"))
        fresh.append(make("LEASE_ACQUIRED", **of), make("EXTERNAL_APPROVAL_REQUESTED", **of))

    async def awaited(ledger: Ledger) -> list[str]:
        shared = AsyncLedger(ledger)
        pages = [
            record.work_order_id async for record in shared.all(Reads.current_by_status, "one", "DRAFT", page_size=1)
        ]
        return [*pages, *[due.tenant_id async for due in shared.due(START + 2 * HOUR)]]

    with fresh.working(), Ledger.connect(LedgerSettings.of(fresh.settings)) as ledger:
        fresh.drain()
        found = [(due.tenant_id, type(due)) for due in ledger.due(START + 2 * HOUR)]
        kinds: list[type] = [DueRetry, TimedOutStep, GrantedLease, CurrentRecord]
        assert found == [(tenant, kind) for tenant in ("one", "two") for kind in kinds]
        assert list(ledger.due(1)) == []
        assert asyncio.run(awaited(ledger)) == ["order-1", *4 * ["one"], *4 * ["two"]]
    without = replace(LedgerSettings.of(fresh.settings), scheduler_dsn=None)
    with Ledger.connect(without) as ledger, pytest.raises(SetupError, match="scheduler_dsn"):
        list(ledger.due(1))


def failing(times: int) -> Callable[[int], str]:
    def work(attempt_index: int) -> str:
        if attempt_index < times:
            raise ValueError(f"attempt {attempt_index}")
        return f"done by attempt {attempt_index}"

    return work


def test_a_step_is_tried_until_it_is_done_and_then_never_again(ledger: Ledger, order_id: str) -> None:
    with HeldLease(ledger, TENANT, order_id, "one", ttl=TTL, reason_code=1) as lease:
        done = run_step(ledger, TENANT, order_id, "book", failing(2), POLICY, lease=lease.claim)
        assert done == "done by attempt 2"
        assert statuses(ledger, order_id) == ["FAILED", "FAILED", "SUCCEEDED"]
        assert run_step(ledger, TENANT, order_id, "book", failing(9), POLICY, lease=lease.claim) is None
    retried = ledger.reads().attempts(TENANT, order_id)[1]
    assert (retried.max_retries, retried.retry_backoff_ms, retried.reason_code) == (2, 1, 77)


def test_a_step_that_fails_in_every_attempt_is_given_up_with_the_last_error(ledger: Ledger, order_id: str) -> None:
    with pytest.raises(StepNotDoneError, match="all of its 3 attempts") as given_up:
        run_step(ledger, TENANT, order_id, "book", failing(9), POLICY)
    assert str(given_up.value.__cause__) == "attempt 2"
    with pytest.raises(StepNotDoneError, match="all of its 3 attempts"):
        run_step(ledger, TENANT, order_id, "book", failing(0), POLICY)
    record = ledger.reads().current(TENANT, order_id)
    assert record is not None
    assert (record.last_failure_reason_code, record.work_order_status) == (77, "EXECUTING")


def test_a_program_that_died_in_an_attempt_continues_with_the_next(ledger: Ledger, order_id: str) -> None:
    class Died(BaseException):
        """As a kill: nothing is reported."""

    def die(_: int) -> None:
        raise Died

    with pytest.raises(Died):
        run_step(ledger, TENANT, order_id, "book", die, POLICY)
    assert statuses(ledger, order_id) == ["RUNNING"]
    assert run_step(ledger, TENANT, order_id, "book", failing(1), POLICY) == "done by attempt 1"
    assert statuses(ledger, order_id) == ["FAILED", "SUCCEEDED"]


def test_many_steps_run_in_tasks_and_one_that_is_cancelled_continues_with_the_next(
    ledger: Ledger, order_id: str
) -> None:
    async def flaky(attempt_index: int) -> int:
        await asyncio.sleep(0)
        if attempt_index < 1:
            raise ValueError(f"attempt {attempt_index}")
        return attempt_index

    async def work() -> list[int | None]:
        shared = AsyncLedger(ledger)
        begun = asyncio.Event()

        async def stuck(_: int) -> None:
            begun.set()
            await asyncio.Event().wait()

        cancelled = asyncio.create_task(run_step_async(shared, TENANT, order_id, "stuck", stuck, POLICY))
        await begun.wait()
        cancelled.cancel()
        assert isinstance((await asyncio.gather(cancelled, return_exceptions=True))[0], asyncio.CancelledError)
        assert [attempt.status for attempt in await shared.read(Reads.attempts, TENANT, order_id)] == ["RUNNING"]
        names = ["stuck", *(f"step-{number}" for number in range(20))]
        done = await asyncio.gather(
            *(run_step_async(shared, TENANT, order_id, name, flaky, POLICY, timeout=30) for name in names)
        )
        assert await run_step_async(shared, TENANT, order_id, "stuck", flaky, POLICY) is None, "it was done before"
        threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("core-tables reads")]
        assert len(threads) <= 4
        return done

    assert asyncio.run(work()) == [1] * 21
    assert statuses(ledger, order_id) == ["FAILED", "SUCCEEDED"] * 21


def test_who_lost_the_lease_or_comes_second_does_not_report_a_step(ledger: Ledger, order_id: str) -> None:
    def rob(_: int) -> None:
        """While one works, its lease ends, and another one takes over and finishes."""
        order = ledger.work_order(TENANT, order_id, reason_code=1)
        assert order.release_lease(*lease.claim).outcome(30) == Accepted()
        with HeldLease(ledger, TENANT, order_id, "two", reason_code=1) as other:
            assert run_step(ledger, TENANT, order_id, "book", failing(1), POLICY, lease=other.claim)

    lease = HeldLease(ledger, TENANT, order_id, "one", ttl=TTL, reason_code=1)
    with pytest.raises(StepNotDoneError, match="done, but not recorded") as refused, lease:
        run_step(ledger, TENANT, order_id, "book", rob, POLICY, lease=lease.claim)
    assert refused.value.reason_code == LEASE_NOT_FOUND
    assert statuses(ledger, order_id) == ["FAILED", "SUCCEEDED"]

    def start_too(_: int) -> None:
        """Nobody holds a lease, and another one starts the same attempt in between."""
        ledger.work_order(TENANT, order_id, reason_code=1).start_step("pay", 1).outcome(30)
        raise ValueError

    with pytest.raises(StepNotDoneError, match="somebody else has started attempt 1"):
        run_step(ledger, TENANT, order_id, "pay", start_too, POLICY)
    assert ledger.cancel(TENANT, order_id, 1, "stop").outcome(30) is not None


def test_a_lease_is_held_by_a_task_and_renewed_and_released(ledger: Ledger, order_id: str) -> None:
    def held(shared: AsyncLedger, owner: str) -> AsyncHeldLease:
        return AsyncHeldLease(shared, TENANT, order_id, owner, ttl=TTL, reason_code=1)

    def renewed() -> bool:
        found = ledger.reads().last_lease(TENANT, order_id)
        return found is not None and found.renewed_at is not None

    async def lose(shared: AsyncLedger) -> None:
        order = shared.work_order(TENANT, order_id, reason_code=1)
        async with held(shared, "two") as lease:
            assert await (await order.release_lease(*lease.claim)).outcome(30) == Accepted()
            await asyncio.to_thread(wait_until, lambda: lease.lost, "the loss to be noticed")
            lost = await order.finish_step("book", 0, lease=lease.claim)
            assert isinstance(await lost.outcome(30), Refused)

    async def work() -> None:
        shared = AsyncLedger(ledger)
        order = shared.work_order(TENANT, order_id, reason_code=1)
        async with held(shared, "one") as lease:
            started = await order.start_step("book", 0, lease=lease.claim)
            assert await started.outcome(30) == Accepted()
            with pytest.raises(LeaseNotHeldError) as refused:
                async with held(shared, "two"):
                    pytest.fail("two have the lease")
            assert refused.value.reason_code == LEASE_HELD_BY_OTHER
            await asyncio.to_thread(wait_until, renewed, "the lease to be renewed")
            lease.check()
        with pytest.raises(LeaseNotHeldError) as at_the_end:
            await lose(shared)
        assert at_the_end.value.reason_code == LEASE_NOT_FOUND

    asyncio.run(work())
