"""One work order to act on: it appends, and remembers what the next event has to say."""

from typing import Protocol

from core_tables.producer.act import Act, KnownOfOrder, NowNs, event_of
from core_tables.producer.receipt import Receipt
from core_tables.producer.work_order_acts import WorkOrderActs, WorkOrderEvents
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.reasons import ContractError, contract_failure


class Acting(Protocol):
    """What a work order to act on asks of its ledger."""

    def append(self, event: LedgerEvent, *, traceparent: str | None = None) -> Receipt: ...

    def current(self, tenant_id: str, work_order_id: str) -> WorkOrder | None: ...


class WorkOrderHandle(WorkOrderActs[Receipt]):
    """A work order to act on; `Ledger.work_order` gives one. It is cheap, and belongs to one thread and one turn.

    Each act appends its event and returns the receipt, without waiting. An event also says the correlation, the turn and the
    status of its work order. Those come, in this order, from the act's own keywords, from the last act of this handle, from
    what it was opened with, or from the current record, which is read once. After an act that was seen to be refused or
    replayed, or that was perhaps not written, the record is read again.

    The status is not looked up for each act. If somebody else may have changed it meanwhile, give `expected_last_event_id`:
    without it, an event with an older status takes the work order back to that, even from CANCELED.
    """

    def __init__(
        self,
        ledger: Acting,
        tenant_id: str,
        work_order_id: str,
        known: KnownOfOrder,
        reason_code: int | None,
        clock: NowNs,
    ) -> None:
        super().__init__(clock)
        self.tenant_id = tenant_id
        self.work_order_id = work_order_id
        self._ledger = ledger
        self._reason_code = reason_code
        self._given = self._known = known
        self._last: Receipt | None = None

    def events(self) -> WorkOrderEvents:
        """The acts that make events as values, with what this handle knows. Nothing is sent; the record may be read."""
        correlation_id, turn_id, status = self._all_known(self._known)
        return WorkOrderEvents(
            self.tenant_id,
            self.work_order_id,
            correlation_id=correlation_id,
            turn_id=turn_id,
            status=status,
            reason_code=self._reason_code,
            clock=self._clock,
        )

    def _do(self, act: Act) -> Receipt:
        if self._last is not None and self._last.failed:
            self._known, self._last = self._given, None
        known = act.over(self._known)
        if act.event_type != "WORK_ORDER_CREATED":
            known = self._all_known(known)
        event = event_of(act, self.tenant_id, self.work_order_id, known, self._reason_code, self._clock())
        receipt = self._ledger.append(event, traceparent=act.options.get("traceparent"))
        self._known = KnownOfOrder(event.correlation_id, event.turn_id, event.work_order_status)
        self._last = receipt
        return receipt

    def _all_known(self, known: KnownOfOrder) -> KnownOfOrder:
        """What is known, completed by the current record. Raises ContractError if that is needed and there is none."""
        if None not in known:
            return known
        record = self._ledger.current(self.tenant_id, self.work_order_id)
        if record is None:
            sentence = "there is no such work order; create it, or open it with its correlation_id, turn_id and status"
            raise ContractError(contract_failure("work_order_id", sentence))
        correlation_id, turn_id, status = known
        return KnownOfOrder(
            record.identity.correlation_id if correlation_id is None else correlation_id,
            record.last.turn_id if turn_id is None else turn_id,
            status or record.last.work_order_status,
        )
