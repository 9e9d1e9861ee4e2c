"""The ledger for asyncio: many await at once, on threads that do not grow with them, and none hinders another."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from core_tables import (
    Accepted,
    AsyncLedger,
    ClosedError,
    ContractError,
    CoreTablesError,
    Ledger,
    LedgerSettings,
    Outcome,
    Reads,
    Refused,
    Replayed,
)

from .builders import make
from .test_shared_clients import in_a_child
from .world import World

pytestmark = pytest.mark.stack

TIMEOUT_S = 30.0
T = TypeVar("T")


def settings(world: World, **kafka: str) -> LedgerSettings:
    return LedgerSettings(world.settings.kafka_servers(), world.settings.reader(), world.settings.topic, kafka)


def in_a_loop(world: World, work: Callable[[AsyncLedger], Awaitable[T]], **kafka: str) -> T:
    """What some work on an asynchronous ledger returns."""

    async def connected() -> T:
        async with await AsyncLedger.connect(settings(world, **kafka)) as ledger:
            return await work(ledger)

    return asyncio.run(connected())


async def outcome_of(ledger: AsyncLedger, number: int, tenant: str) -> Outcome | None:
    event = make("FIELD_SET", tenant_id=tenant, work_order_id=f"order-{number}")
    return await (await ledger.append(event)).outcome(TIMEOUT_S)


def threads_of_clients() -> int:
    """The threads of ledgers; the worker runs in this process too, and for some of its work it takes more."""
    return sum(thread.name.startswith("core-tables") for thread in threading.enumerate())


def test_a_thousand_outcomes_are_awaited_with_hardly_more_threads_than_one(world: World) -> None:
    async def work(ledger: AsyncLedger) -> tuple[int, int, list[Outcome | None]]:
        assert await outcome_of(ledger, 0, "thousand") == Accepted()
        one = threads_of_clients()
        waits = asyncio.gather(*(outcome_of(ledger, number, "thousand") for number in range(1, 1001)))
        most = one
        while not waits.done():
            await asyncio.wait([waits], timeout=0.01)
            most = max(most, threads_of_clients())
        return one, most, await waits

    with world.working():
        one, most, outcomes = in_a_loop(world, work)
    assert outcomes == [Accepted()] * 1000
    assert most <= one + 4


def test_one_that_is_cancelled_leaves_the_others_and_one_out_of_time_gets_none(world: World) -> None:
    async def work(ledger: AsyncLedger) -> tuple[list[Any], Outcome | None]:
        waits = [asyncio.create_task(outcome_of(ledger, number, "cancelled")) for number in range(10)]
        late = await ledger.append(make("FIELD_SET", tenant_id="cancelled", work_order_id="order-10"))
        await late.event_id()
        early = await late.outcome(timeout=0.1)
        waits[3].cancel()
        with world.working():
            return await asyncio.gather(*waits, return_exceptions=True), early

    outcomes, early = in_a_loop(world, work)
    assert early is None
    assert isinstance(outcomes.pop(3), asyncio.CancelledError)
    assert outcomes == [Accepted()] * 9


def test_reads_are_awaited(world: World) -> None:
    async def work(ledger: AsyncLedger) -> list[str]:
        tenants = [f"read-{number}" for number in range(6)]
        await asyncio.gather(*(outcome_of(ledger, 1, tenant) for tenant in tenants))
        found = await asyncio.gather(*(ledger.read(Reads.current, tenant, "order-1") for tenant in tenants * 8))
        assert await ledger.read(Reads.ledger, tenants[0], work_order_id="order-2") == []
        return [record.tenant_id if record else "none" for record in found]

    with world.working():
        assert in_a_loop(world, work) == [f"read-{number}" for number in range(6)] * 8


def test_a_work_order_is_acted_on_and_read_where_it_was_made_elsewhere(world: World) -> None:
    async def work(ledger: AsyncLedger) -> None:
        order = ledger.work_order("async-acts", "order-1", correlation_id=9, reason_code=1)
        created = await order.create(requester_user_id="ada", status="EXECUTING")
        assert await created.outcome(TIMEOUT_S) == Accepted()
        elsewhere = ledger.work_order("async-acts", "order-1", reason_code=1)
        asked = await elsewhere.ask("city", prompt_dedupe_key="p", turn_id=4)
        assert (asked.event.work_order_status, asked.event.correlation_id) == ("EXECUTING", 9)
        assert await asked.outcome(TIMEOUT_S) == Accepted()
        refused = await elsewhere.cancel(idempotency_key="stop")
        assert isinstance(await refused.outcome(TIMEOUT_S), Refused)
        assert (await elsewhere.events()).ask("date", prompt_dedupe_key="q").work_order_status == "EXECUTING"
        again = await order.ask("city", prompt_dedupe_key="p")
        assert isinstance(await again.outcome(TIMEOUT_S), Replayed)
        shown = [repr(receipt) for receipt in (created, again, again.receipt)]
        assert shown == [
            "<AsyncReceipt of WORK_ORDER_CREATED for 'order-1': Accepted>",
            "<AsyncReceipt of FIELD_ASKED for 'order-1': Replayed>",
            "<Receipt of FIELD_ASKED for 'order-1': Replayed>",
        ]
        with pytest.raises(ContractError, match="there is no such work order"):
            await ledger.work_order("async-acts", "nobody", reason_code=1).finish_step("step-1", 0)

    with world.working():
        in_a_loop(world, work)


def test_what_breaks_the_contract_is_raised_and_what_fails_for_one_fails_for_no_other(world: World) -> None:
    async def work(ledger: AsyncLedger) -> None:
        with pytest.raises(ContractError):
            await ledger.append(make("FIELD_SET", tenant_id=""))
        receipt = await ledger.append(make("FIELD_SET", tenant_id="lost"))
        assert await receipt.outcome(TIMEOUT_S) == Accepted()
        awaited = getattr(ledger, "_settling").outcome  # noqa: B009 - a record of a tenant that has none there
        stranger = asyncio.create_task(awaited("stranger", await receipt.event_id(), TIMEOUT_S))
        others = [outcome_of(ledger, number, "lost") for number in range(5)]
        assert await asyncio.gather(*others) == [Accepted()] * 5
        with pytest.raises(CoreTablesError, match="no outcome of it belongs to this tenant"):
            await stranger

    with world.working():
        in_a_loop(world, work)


def test_appends_that_find_the_queue_full_wait_and_none_is_lost(world: World) -> None:
    async def work(ledger: AsyncLedger) -> set[int]:
        events = [make("FIELD_SET", tenant_id="full", work_order_id=f"order-{number}") for number in range(300)]
        receipts = await asyncio.gather(*map(ledger.append, events))
        return set(await asyncio.gather(*(receipt.event_id() for receipt in receipts)))

    assert len(in_a_loop(world, work, **{"queue.buffering.max.messages": "20", "linger.ms": "50"})) == 300


def test_who_awaits_when_the_ledger_is_closed_gets_an_error(world: World) -> None:
    async def work(ledger: AsyncLedger) -> None:
        receipt = await ledger.append(make("FIELD_SET", tenant_id="closed"))
        await receipt.event_id()
        waiting = asyncio.create_task(receipt.outcome(TIMEOUT_S))
        await asyncio.sleep(0)
        await ledger.close()
        for late in (waiting, receipt.outcome(TIMEOUT_S), ledger.append(receipt.event)):
            with pytest.raises(ClosedError):
                await late

    in_a_loop(world, work)


def test_loops_of_several_threads_and_of_a_forked_process_share_a_ledger(world: World) -> None:
    async def work(ledger: AsyncLedger, tenant: str) -> list[Outcome | None]:
        return list(await asyncio.gather(*(outcome_of(ledger, number, tenant) for number in range(20))))

    with world.working(), Ledger.connect(settings(world)) as connected:
        shared = AsyncLedger(connected)
        results: dict[str, list[Outcome | None]] = {}

        def run(tenant: str) -> None:
            results[tenant] = asyncio.run(work(shared, tenant))

        threads = [threading.Thread(target=run, args=(f"loop-{number}",)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
        child = in_a_child(lambda: (os.getpid(), asyncio.run(work(shared, "loop-child"))))
        pid, outcomes = child()
        asyncio.run(shared.close())
    assert results == {f"loop-{number}": [Accepted()] * 20 for number in range(3)}
    assert (pid == os.getpid(), outcomes) == (False, [Accepted()] * 20)
