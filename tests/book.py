"""A ledger in memory: the real fold, which remembers every state, key and correlation."""

from core_tables.projection.fold.batch import read_content
from core_tables.projection.fold.in_memory import FoldInMemory
from core_tables.projection.fold.values import Decided, Record, WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Outcome, Refused
from core_tables.schemas.vocabulary import PARTITIONS
from core_tables.schemas.wire import KNOWN_SCHEMAS, Schemas, encode_event

from .builders import make


class Book:
    """Appends events one after the other, and keeps what was decided."""

    def __init__(self, schemas: Schemas = KNOWN_SCHEMAS) -> None:
        self.schemas = schemas
        self._fold = FoldInMemory()
        self.decided: list[Decided] = []
        self.offset = 0

    @property
    def states(self) -> dict[WorkOrderKey, WorkOrder | None]:
        """The work orders as they are now."""
        return self._fold.states

    def append(self, *events: LedgerEvent) -> Outcome:
        """Append events; the outcome of the last one."""
        for event in events:
            key = event.tenant_id.encode()
            self.append_record(key, encode_event(event), partition_of(key, PARTITIONS))
        return self.decided[-1].outcome

    def append_record(
        self, key: bytes | None, value: bytes | None, partition: int, partitions: int = PARTITIONS
    ) -> Outcome:
        """Append a record as it is."""
        event_id = event_id_at(partition, self.offset)
        self.offset += 1
        content = read_content(event_id, key, value, partition, partitions, self.schemas)
        self.decided += self._fold.decide([Record(event_id, content, 5, None)])
        return self.decided[-1].outcome

    def refusal(self, *events: LedgerEvent) -> Refused:
        """Append events, the last of which must be refused; why it was."""
        outcome = self.append(*events)
        assert isinstance(outcome, Refused), f"{outcome} instead of a refusal"
        return outcome

    def state(self, tenant_id: str = "acme", work_order_id: str = "order-1") -> WorkOrder:
        """The state of a work order that exists."""
        state = self.states[tenant_id, work_order_id]
        assert state is not None
        return state

    @property
    def last_id(self) -> int:
        """The event id of the last record."""
        return self.decided[-1].event_id


def created() -> Book:
    """A ledger with one work order, which has been created."""
    book = Book()
    book.append(make("WORK_ORDER_CREATED"))
    return book
