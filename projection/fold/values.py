"""What the fold takes and gives: records with what could be read of them, and their outcomes.

The compiled build leaves this module out (schemas/events.py).
"""

from msgspec import Struct

from core_tables.projection.fold.work_order import WorkOrder
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.outcomes import Outcome
from core_tables.schemas.reasons import Violation
from core_tables.schemas.vocabulary import WorkOrderStatus
from core_tables.schemas.wire import Unreadable

WorkOrderKey = tuple[str, str]  # tenant_id, work_order_id
ReplayKey = tuple[str, str, str]  # tenant_id, work_order_id, idempotency_key
Changed = dict[WorkOrderKey, tuple[WorkOrder | None, WorkOrder]]  # before, after


class Request(Struct, frozen=True, gc=False):
    """A record that was read: its id, its event, the size of its payload, and what is wrong with its keys."""

    event_id: int
    event: LedgerEvent
    payload_bytes: int
    malformed: Violation | None


class Record(Struct, frozen=True, gc=False):
    """A record of the ledger topic: its id, what could be read of it, its broker time (ns) and trace."""

    event_id: int
    content: Request | Unreadable
    broker_time: int
    traceparent: bytes | None


class First(Struct, frozen=True, gc=False):
    """The event that an idempotency key is bound to."""

    event_id: int
    event: LedgerEvent


class Decided(Struct, frozen=True, gc=False):
    """A record's outcome: what ledger, outcomes and audit are written from.

    `event` is None where the body cannot be read or must not be shown to the tenant the record is attributed to; in it, a
    malformed work_order_id is empty, and a malformed idempotency_key None. `status_before` is that of an accepted event's work
    order, None if there was none yet.
    """

    event_id: int
    tenant_id: str
    event: LedgerEvent | None
    outcome: Outcome
    status_before: WorkOrderStatus | None
    broker_time: int
    traceparent: bytes | None


class KnownState(Struct, frozen=True, gc=False):
    """A state in memory, and which idempotency keys its work order may have used (needs.key_bits)."""

    state: WorkOrder
    key_bits: int


class Loaded(Struct, frozen=True):
    """What the stores know about the work orders, keys and correlations of a batch; None: no such work order yet."""

    states: dict[WorkOrderKey, WorkOrder | None]
    firsts: dict[ReplayKey, First]
    owners: dict[tuple[str, int], str]


class Folded(Struct, frozen=True):
    """The outcomes of a batch in order, and each work order that it changed, before and after."""

    decided: list[Decided]
    changed: Changed
