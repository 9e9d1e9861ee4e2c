"""Our fold and the one that was written from the contract alone, side by side on the same events."""

from typing import Any

import orjson
from msgspec.structs import asdict

from core_tables.projection.postgres.read_types import record_json, record_of_state
from core_tables.schemas.events import PAYLOAD_TYPES, LedgerEvent, SizedEvent
from core_tables.schemas.json_form import event_to_json
from core_tables.schemas.outcomes import Accepted, Outcome, Refused, Replayed
from core_tables.schemas.wire import decode_event, encode_event

from .book import Book
from .contract_fold import ContractFold, same


def as_the_contract_fold_says(outcome: Outcome, status_before: str | None) -> tuple[Any, ...]:
    """An outcome as `ContractFold.append` gives it."""
    match outcome:
        case Accepted():
            return "accepted", status_before
        case Replayed():
            return "replayed", outcome.first_event_id, outcome.request_differs
        case Refused():
            return "refused", outcome.reason_code, outcome.field


def plain(event: LedgerEvent) -> dict[str, Any]:
    """An event in its JSON form, and the type whose payload it carries, which that form does not say."""
    as_json: dict[str, Any] = orjson.loads(orjson.dumps(event_to_json(event)))
    kinds = [kind for kind, payload in PAYLOAD_TYPES.items() if type(event.payload) is payload]
    return {**as_json, "payload_type": kinds[0] if kinds else event.event_type}


class BothFolds:
    """Appends events to both, and compares."""

    def __init__(self) -> None:
        self.book = Book()
        self.second = ContractFold()

    def append(self, event: LedgerEvent) -> None:
        """Append an event; both must decide the same, and leave the same rows of its work order."""
        self.book.append(event)
        self._compare_outcomes(event)
        self._compare_rows(event)

    def _compare_outcomes(self, event: LedgerEvent) -> None:
        decided = self.book.decided[-1]
        actual = as_the_contract_fold_says(decided.outcome, decided.status_before)
        sized = decode_event(encode_event(event))
        assert isinstance(sized, SizedEvent), sized
        assert actual == self.second.append(decided.event_id, plain(event), sized.payload_bytes), event

    def _compare_rows(self, event: LedgerEvent) -> None:
        key = (event.tenant_id, event.work_order_id)
        state, rows = self.book.states.get(key), self.second.orders.get(key)
        if state is None or rows is None:
            assert state is None, event
            assert rows is None, event
            return
        current = orjson.loads(orjson.dumps(record_json(record_of_state(state))))
        assert same(current, rows.current), (event, current, rows.current)
        assert {key: asdict(attempt) for key, attempt in state.attempts.items()} == rows.attempts, event
        leases = state.closed_leases if state.lease is None else (*state.closed_leases, state.lease)
        assert [asdict(lease) for lease in leases] == rows.leases, event
