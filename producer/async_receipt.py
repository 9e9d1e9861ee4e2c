"""What an append through asyncio gives: a receipt whose waits are awaited, and a work order whose acts are."""

from collections.abc import Awaitable
from time import monotonic
from typing import Protocol

from core_tables.kafka.clients import DELIVERY_TIMEOUT_S
from core_tables.producer.act import Act
from core_tables.producer.order_memory import OrderMemory
from core_tables.producer.receipt import Receipt
from core_tables.producer.settling import Settling
from core_tables.producer.work_order_acts import WorkOrderActs, WorkOrderEvents
from core_tables.projection.postgres.read_types import CurrentRecord
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.outcomes import Outcome


class AsyncReceipt:
    """The receipt of an append, which first becomes durable and is then folded. Any number of tasks may await it."""

    def __init__(self, receipt: Receipt, settling: Settling) -> None:
        self.receipt = receipt
        self._settling = settling

    def __repr__(self) -> str:
        return repr(self.receipt).replace("<", "<Async", 1)

    @property
    def event(self) -> LedgerEvent:
        """The event that was appended."""
        return self.receipt.event

    async def event_id(self, timeout: float = DELIVERY_TIMEOUT_S + 5) -> int:
        """The id of the record, once the broker has acknowledged it. Raises what `Receipt.event_id` raises."""
        if not self.receipt.delivered:
            await self._settling.delivered(self.receipt, timeout)
        return self.receipt.event_id(0)

    async def outcome(self, timeout: float) -> Outcome | None:
        """The outcome: Accepted, Replayed or Refused, or None if there is none yet after `timeout` seconds.

        Raises UnavailableError if the broker or Postgres does not answer in that time.
        """
        end = monotonic() + timeout
        event_id = await self.event_id(timeout)
        left = max(0.0, end - monotonic())
        return self.receipt.noted(await self._settling.outcome(self.event.tenant_id, event_id, left))


class AwaitedLedger(Protocol):
    """What a work order to act on asks of its ledger."""

    async def append(self, event: LedgerEvent, *, traceparent: str | None = None) -> AsyncReceipt: ...

    async def current(self, tenant_id: str, work_order_id: str) -> CurrentRecord | None: ...


class AsyncWorkOrderHandle(WorkOrderActs[Awaitable[AsyncReceipt]]):
    """`WorkOrderHandle` for asyncio; `AsyncLedger.work_order` gives one: `receipt = await order.ask(…)`.

    It belongs to one task and one turn. Await an act before you begin the next.
    """

    def __init__(self, ledger: AwaitedLedger, memory: OrderMemory) -> None:
        super().__init__(memory.clock)
        self._ledger = ledger
        self._memory = memory

    async def events(self) -> WorkOrderEvents:
        """The acts that make events as values, with what this handle knows. Nothing is sent; the record may be read."""
        await self._know(None)
        return self._memory.events()

    def _do(self, act: Act) -> Awaitable[AsyncReceipt]:
        return self._append(act)

    async def _append(self, act: Act) -> AsyncReceipt:
        await self._know(act)
        receipt = await self._ledger.append(self._memory.event(act), traceparent=act.options.get("traceparent"))
        self._memory.note(receipt.receipt)
        return receipt

    async def _know(self, act: Act | None) -> None:
        if self._memory.needs_record(act):
            self._memory.complete(await self._ledger.current(self._memory.tenant_id, self._memory.work_order_id))
