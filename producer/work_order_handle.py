"""One work order to act on: it appends, and remembers what the next event has to say."""

from typing import Protocol

from core_tables.producer.act import Act
from core_tables.producer.order_memory import OrderMemory
from core_tables.producer.receipt import Receipt
from core_tables.producer.work_order_acts import WorkOrderActs, WorkOrderEvents
from core_tables.projection.postgres.read_types import CurrentRecord
from core_tables.schemas.events import LedgerEvent


class Acting(Protocol):
    """What a work order to act on asks of its ledger."""

    def append(self, event: LedgerEvent, *, traceparent: str | None = None) -> Receipt: ...

    def current(self, tenant_id: str, work_order_id: str) -> CurrentRecord | None: ...


class WorkOrderHandle(WorkOrderActs[Receipt]):
    """A work order to act on; `Ledger.work_order` gives one. It is cheap, and belongs to one thread and one turn.

    Each act appends its event and returns the receipt, without waiting. An event also says the correlation, the turn and the
    status of its work order. Those come, in this order, from the act's own keywords, from the last act of this handle, from
    what it was opened with, or from the current record, which is read once. After an act that was seen to be refused or
    replayed, or that was perhaps not written, the record is read again.

    The status is not looked up for each act. If somebody else may have changed it meanwhile, give `expected_last_event_id`:
    without it, an event with an older status takes the work order back to that, even from CANCELED.
    """

    def __init__(self, ledger: Acting, memory: OrderMemory) -> None:
        super().__init__(memory.clock)
        self._ledger = ledger
        self._memory = memory

    def events(self) -> WorkOrderEvents:
        """The acts that make events as values, with what this handle knows. Nothing is sent; the record may be read."""
        self._know(None)
        return self._memory.events()

    def _do(self, act: Act) -> Receipt:
        self._know(act)
        receipt = self._ledger.append(self._memory.event(act), traceparent=act.options.get("traceparent"))
        self._memory.note(receipt)
        return receipt

    def _know(self, act: Act | None) -> None:
        if self._memory.needs_record(act):
            self._memory.complete(self._ledger.current(self._memory.tenant_id, self._memory.work_order_id))
