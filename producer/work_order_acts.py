"""All acts on one work order, and the events that they make, as values."""

import time

from core_tables.producer.act import Act, KnownOfOrder, NowNs, event_of
from core_tables.producer.acts import Made
from core_tables.producer.approval_acts import ApprovalActs
from core_tables.producer.lease_acts import LeaseActs
from core_tables.producer.record_acts import RecordActs
from core_tables.producer.step_acts import StepActs
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.vocabulary import WorkOrderStatus


class WorkOrderActs(RecordActs[Made], StepActs[Made], LeaseActs[Made], ApprovalActs[Made]):
    """One method for each event type. What they share are the keywords of `ActOptions`.

    An act that can happen only once has an idempotency key of its own, so that the same act again is a replay; its method
    says which. Every other act needs one from you: only you know whether the same words are the same act again.
    """


class WorkOrderEvents(WorkOrderActs[LedgerEvent]):
    """The events of one work order as values. Nothing is sent or read; the clock is asked where no `created_at` is given.

    What is not given here must be given to each act, or it raises ContractError.
    """

    def __init__(
        self,
        tenant_id: str,
        work_order_id: str,
        *,
        correlation_id: int | None = None,
        turn_id: int | None = None,
        status: WorkOrderStatus | None = None,
        reason_code: int | None = None,
        clock: NowNs = time.time_ns,
    ) -> None:
        super().__init__(clock)
        self.tenant_id = tenant_id
        self.work_order_id = work_order_id
        self.reason_code = reason_code
        self._known = KnownOfOrder(correlation_id, turn_id, status)

    def _do(self, act: Act) -> LedgerEvent:
        return event_of(act, self.tenant_id, self.work_order_id, self._known, self.reason_code, self._clock())
