"""A ledger of one lane in memory: the real fold, fed by what it would find in the tables."""

from core_tables.projection.fold.batch import fold_batch, read_content
from core_tables.projection.fold.values import Decided, First, Loaded, Record, WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Outcome, Refused
from core_tables.schemas.vocabulary import PARTITIONS
from core_tables.schemas.wire import encode_event


class Book:
    """Appends events one after the other, and remembers every state, key and correlation."""

    def __init__(self) -> None:
        self.states: dict[WorkOrderKey, WorkOrder | None] = {}
        self.firsts: dict[tuple[str, str, str], First] = {}
        self.owners: dict[tuple[str, int], str] = {}
        self.decided: list[Decided] = []
        self.offset = 0

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
        position = event_id_at(partition, self.offset)
        self.offset += 1
        content = read_content(position, key, value, partition, partitions)
        loaded = Loaded(self.states, self.firsts, self.owners)
        self.decided += fold_batch([Record(position, content, 5, None)], loaded).decided
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
        """The position id of the last record."""
        return self.decided[-1].event_id
