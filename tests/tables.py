"""What Postgres holds of a ledger, in memory: rows as the statements write them, and what a batch loads from them.

The laws of the fold and the simulation share it. The statements themselves are tested on the real Postgres.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import orjson
from msgspec.json import encode
from msgspec.structs import replace as with_changes

from core_tables.projection.fold.needs import Known, loadable_events, named_attempts, unsure_keys
from core_tables.projection.fold.values import Changed, Decided, First, Loaded, Record, ReplayKey, WorkOrderKey
from core_tables.projection.fold.work_order import OPEN_ATTEMPTS, AttemptKey, WorkOrder
from core_tables.projection.postgres.from_rows import attempt_of_row, event_of_row, lease_of_row, state_of_row
from core_tables.projection.postgres.row_types import AttemptRow, CurrentRow, LeaseRow, LedgerRow, Row
from core_tables.projection.postgres.rows import attempt_rows, current_row, lease_rows, ledger_row
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.outcomes import Accepted, Outcome
from core_tables.schemas.reasons import LaneStoppedError
from core_tables.schemas.vocabulary import WorkOrderStatus

R = TypeVar("R", bound=Row)


@dataclass
class Tables:
    """The rows, by their keys, as they are read again."""

    ledger: dict[int, LedgerRow] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)  # as values, the accepted ones too
    current: dict[WorkOrderKey, CurrentRow] = field(default_factory=dict)
    attempts: dict[WorkOrderKey, dict[AttemptKey, AttemptRow]] = field(default_factory=dict)
    leases: dict[WorkOrderKey, dict[int, LeaseRow]] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """Whether the rows are the same as JSON: `true` is not 1."""
        return isinstance(other, Tables) and self._as_json() == other._as_json()

    __hash__ = None  # type: ignore[assignment] # its rows change

    def _as_json(self) -> object:
        current = {key: _json(row) for key, row in self.current.items()}
        attempts = {key: _by_name(rows) for key, rows in self.attempts.items()}
        leases = {key: _by_name(rows) for key, rows in self.leases.items()}
        return {key: _json(row) for key, row in self.ledger.items()}, self.outcomes, current, attempts, leases

    def copy(self) -> Self:
        """A copy that may be changed; rows are never changed in place."""
        return replace(
            self,
            ledger=dict(self.ledger),
            outcomes=dict(self.outcomes),
            current=dict(self.current),
            attempts={key: dict(rows) for key, rows in self.attempts.items()},
            leases={key: dict(rows) for key, rows in self.leases.items()},
        )

    def load(self, records: Sequence[Record], known: Known) -> Loaded:
        """What the tables know about the work orders, keys and correlations of a batch that are not known already."""
        events = loadable_events(records)
        keys = {(event.tenant_id, event.work_order_id) for event in events}
        states = {key: known[key].state if key in known else self._loaded_state(key) for key in sorted(keys)}
        for tenant_id, work_order_id, step_id, attempt_index in named_attempts(events, states):
            key, state = (tenant_id, work_order_id), states[tenant_id, work_order_id]
            row = self.attempts.get(key, {}).get((step_id, attempt_index))
            if state is not None and row is not None:
                name, value = attempt_of_row(row)
                states[key] = with_changes(state, attempts={**state.attempts, name: value})
        asked = {(event.tenant_id, event.correlation_id) for event in events}
        owners = {
            (row.tenant_id, int(row.correlation_id)): row.work_order_id
            for row in self.current.values()
            if (row.tenant_id, int(row.correlation_id)) in asked
        }
        return Loaded(states=states, firsts=self._firsts(unsure_keys(events, known)), owners=owners)

    def write(self, decided: Iterable[Decided], changed: Changed) -> None:
        """Write what a batch decided, and the work orders that it changed. Raises LaneStoppedError."""
        for each in decided:
            if each.event_id in self.outcomes:
                raise LaneStoppedError(f"a second outcome of {each.event_id}")
            self.outcomes[each.event_id] = each.outcome
            if isinstance(each.outcome, Accepted) and each.event is not None:
                self.ledger[each.event_id] = _stored(ledger_row(each.event_id, each.event, each.status_before))
        for before, after in changed.values():
            self.put(after, before)

    def put(self, after: WorkOrder, before: WorkOrder | None = None) -> None:
        """Write the rows of a work order in which a state differs from the one before."""
        key = (after.identity.tenant_id, after.identity.work_order_id)
        self.current[key] = _stored(current_row(after))
        attempts = map(_stored, attempt_rows(after, before))
        self.attempts.setdefault(key, {}).update({(row.step_id, row.attempt_index): row for row in attempts})
        leases = map(_stored, lease_rows(after, before))
        self.leases.setdefault(key, {}).update({row.granted_event_id: row for row in leases})

    def put_instead(self, state: WorkOrder) -> None:
        """Replace all rows of a work order."""
        key = (state.identity.tenant_id, state.identity.work_order_id)
        self.attempts[key], self.leases[key] = {}, {}
        self.put(state)

    def put_from(self, other: "Tables", keys: Iterable[WorkOrderKey]) -> None:
        """Take the rows of work orders over."""
        for key in keys:
            self.current[key] = other.current[key]
            self.attempts[key] = self.attempts.get(key, {}) | other.attempts[key]
            self.leases[key] = self.leases.get(key, {}) | other.leases[key]

    def rows(self, key: WorkOrderKey) -> object:
        """The rows of a work order, comparable."""
        current, attempts, leases = self.current.get(key), self.attempts.get(key), self.leases.get(key)
        return current and _json(current), _by_name(attempts or {}), _by_name(leases or {})

    def statuses(self) -> dict[int, WorkOrderStatus | None]:
        """By event id, the status before each accepted event."""
        return {event_id: row.status_before for event_id, row in self.ledger.items()}

    def events(self) -> dict[int, LedgerEvent]:
        """By event id, the events of the ledger."""
        return {event_id: event_of_row(row) for event_id, row in self.ledger.items()}

    def states(self, tenant_id: str) -> list[WorkOrder]:
        """The current records of a tenant; attempts and leases have rows of their own."""
        return [state_of_row(row) for key, row in sorted(self.current.items()) if key[0] == tenant_id]

    def _loaded_state(self, key: WorkOrderKey) -> WorkOrder | None:
        """A work order with its active lease and its open attempts."""
        row = self.current.get(key)
        if row is None:
            return None
        active = [lease_of_row(lease) for lease in self.leases[key].values() if lease.lease_state == "ACTIVE"]
        assert len(active) <= 1, "a partial unique index forbids it"
        attempts = dict(attempt_of_row(row) for row in self.attempts[key].values() if row.status in OPEN_ATTEMPTS)
        return with_changes(state_of_row(row), attempts=attempts, lease=active[0] if active else None)

    def _firsts(self, keys: set[ReplayKey]) -> dict[ReplayKey, First]:
        firsts: dict[ReplayKey, First] = {}
        for event_id, row in sorted(self.ledger.items()):
            if row.idempotency_key is not None:
                key = (row.tenant_id, row.work_order_id, row.idempotency_key)
                if key in keys:
                    firsts.setdefault(key, First(event_id, event_of_row(row)))
        return firsts


def _stored(row: R) -> R:
    """A row as it is read again."""
    return type(row)(**orjson.loads(encode(row)))


def _by_name(rows: Mapping[Any, Row]) -> dict[object, bytes]:
    return {name: _json(row) for name, row in rows.items()}


def _json(row: Row) -> bytes:
    return encode(row, order="sorted")
