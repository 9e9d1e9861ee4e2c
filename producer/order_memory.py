"""What is known of a work order between its acts, and the event of the next one."""

from core_tables.producer.act import Act, KnownOfOrder, NowNs, event_of
from core_tables.producer.receipt import Receipt
from core_tables.producer.work_order_acts import WorkOrderEvents
from core_tables.projection.postgres.read_types import CurrentRecord
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.reasons import ContractError, contract_failure


class OrderMemory:
    """What a work order was opened with, what its last act said, and what its record said when that was needed."""

    def __init__(
        self, tenant_id: str, work_order_id: str, known: KnownOfOrder, reason_code: int | None, clock: NowNs
    ) -> None:
        self.tenant_id = tenant_id
        self.work_order_id = work_order_id
        self.clock = clock
        self._reason_code = reason_code
        self._given = self._known = known
        self._last: Receipt | None = None

    def needs_record(self, act: Act | None) -> bool:
        """Whether the current record must be read before an act, or before events of any type are made."""
        if self._last is not None and self._last.failed:
            self._known, self._last = self._given, None
        if act is None:
            return None in self._known
        return act.event_type != "WORK_ORDER_CREATED" and None in act.over(self._known)

    def complete(self, record: CurrentRecord | None) -> None:
        """Fill in what is not known. Raises ContractError if there is no record."""
        if record is None:
            sentence = "there is no such work order; create it, or open it with its correlation_id, turn_id and status"
            raise ContractError(contract_failure("work_order_id", sentence))
        correlation_id, turn_id, status = self._known
        self._known = KnownOfOrder(
            record.correlation_id if correlation_id is None else correlation_id,
            record.turn_id if turn_id is None else turn_id,
            status or record.work_order_status,
        )

    def event(self, act: Act) -> LedgerEvent:
        """The event of an act. Raises ContractError for what is still not known."""
        return event_of(act, self.tenant_id, self.work_order_id, self._known, self._reason_code, self.clock())

    def events(self) -> WorkOrderEvents:
        """The acts as values, with what is known."""
        correlation_id, turn_id, status = self._known
        return WorkOrderEvents(
            self.tenant_id,
            self.work_order_id,
            correlation_id=correlation_id,
            turn_id=turn_id,
            status=status,
            reason_code=self._reason_code,
            clock=self.clock,
        )

    def note(self, receipt: Receipt) -> None:
        """Remember what an event said that was appended."""
        event = receipt.event
        self._known = KnownOfOrder(event.correlation_id, event.turn_id, event.work_order_status)
        self._last = receipt
