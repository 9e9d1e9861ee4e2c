"""The fold of records with everything it must know in memory, from the first record on. Pure: data in, data out."""

from collections.abc import Callable, Iterable, Sequence

from core_tables.projection.fold.batch import fold_batch
from core_tables.projection.fold.evolve import evolve
from core_tables.projection.fold.needs import loadable
from core_tables.projection.fold.values import Decided, First, Loaded, Record, Request, WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.schemas.events import LedgerEvent

History = Callable[[str], Iterable[tuple[int, LedgerEvent]]]


class FoldInMemory:
    """The states, idempotency keys and correlations of all records folded so far.

    `history` gives what a tenant had before its first record here: pairs of event id and accepted event, in order.
    """

    def __init__(self, history: History = lambda _: ()) -> None:
        self._history = history
        self._tenants: set[str] = set()
        self._known = Loaded(states={}, firsts={}, owners={})

    @property
    def states(self) -> dict[WorkOrderKey, WorkOrder | None]:
        """The work orders as they are after the last record."""
        return self._known.states

    def decide(self, records: Sequence[Record]) -> list[Decided]:
        """The decisions about further records, in order."""
        for record in records:
            if isinstance(record.content, Request) and loadable(record.content):
                tenant_id = record.content.event.tenant_id
                if tenant_id not in self._tenants:
                    self._tenants.add(tenant_id)
                    self._remember(tenant_id)
        return fold_batch(records, self._known).decided

    def _remember(self, tenant_id: str) -> None:
        states, firsts, owners = self._known.states, self._known.firsts, self._known.owners
        for event_id, event in self._history(tenant_id):
            key = (tenant_id, event.work_order_id)
            if key not in states:
                owners[tenant_id, event.correlation_id] = event.work_order_id
            states[key] = evolve(states.get(key), event, event_id)
            if event.idempotency_key is not None:
                firsts[*key, event.idempotency_key] = First(event_id, event)
