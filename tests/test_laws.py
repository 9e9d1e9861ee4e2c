"""The laws of the fold, as properties: redelivery changes nothing, replay equals live, any split gives the same."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import orjson
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from core_tables.projection.fold.batch import fold_in_parts, read_content
from core_tables.projection.fold.evolve import evolve
from core_tables.projection.fold.needs import loadable_events, named_attempts
from core_tables.projection.fold.values import Changed, Decided, First, Loaded, Record, WorkOrderKey
from core_tables.projection.fold.work_order import OPEN_ATTEMPTS, WorkOrder, settled
from core_tables.projection.postgres.row_types import (
    AttemptRow,
    CurrentRow,
    LeaseRow,
    LedgerRow,
    attempt_of_row,
    event_of_row,
    lease_of_row,
    state_of_row,
)
from core_tables.projection.postgres.rows import Row, attempt_rows, current_row, lease_rows, ledger_row
from core_tables.schemas.audit import audit_event, decode_audit, encode_audit
from core_tables.schemas.events import LedgerEvent, SizedEvent
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.json_form import canonical_json, event_from_json, event_to_json
from core_tables.schemas.outcomes import Accepted, Refused, Replayed
from core_tables.schemas.wire import decode_event, encode_event

from .book import Book
from .strategies import ledger_events, logs, step_logs

R = TypeVar("R", AttemptRow, LeaseRow)


def by_key(kind: type[R], rows: Iterable[Row]) -> dict[object, R]:
    return {row.key: row for row in map(kind._make, rows)}


class Tables:
    """What the tables would hold, as rows, and the fold over them in batches, as the worker does it."""

    def __init__(self) -> None:
        self.ledger: dict[int, LedgerEvent] = {}
        self.current: dict[WorkOrderKey, Row] = {}
        self.attempts: dict[object, AttemptRow] = {}
        self.leases: dict[object, LeaseRow] = {}
        self.decided: list[Decided] = []
        self.memory: dict[WorkOrderKey, WorkOrder] = {}

    def fold(self, records: Sequence[Record], *, forget: bool) -> None:
        """Load what a batch needs from the rows (or memory), fold it, and write what changed."""
        if forget:
            self.memory = {}
        keys = {(r.content.event.tenant_id, r.content.event.work_order_id) for r in records}  # type: ignore[union-attr]
        states = {key: self.memory.get(key) or self._load(key) for key in sorted(keys)}
        for tenant, work_order, step, index in named_attempts(loadable_events(records), states):
            state, row = states[tenant, work_order], self.attempts.get((tenant, work_order, step, index))
            if state is not None and row is not None:
                name, attempt = attempt_of_row(row)
                states[tenant, work_order] = replace(state, attempts={**state.attempts, name: attempt})
        firsts = {
            (event.tenant_id, event.work_order_id, event.idempotency_key): First(position, event.payload)
            for position, event in sorted(self.ledger.items(), reverse=True)
            if event.idempotency_key is not None
        }
        current = map(CurrentRow._make, self.current.values())
        owners = {(row.tenant_id, int(row.correlation_id)): row.work_order_id for row in current}
        changed: Changed = {}
        folded = [
            each for part in fold_in_parts(records, Loaded(states, firsts, owners), changed, size=3) for each in part
        ]
        self.decided += folded
        for decided in folded:
            if isinstance(decided.outcome, Accepted) and decided.event is not None:
                written = LedgerRow._make(ledger_row(decided.event_id, decided.event))
                read = written._replace(payload=orjson.loads(str(written.payload)))
                self.ledger[decided.event_id] = event_of_row(read)
        for key, (before, after) in changed.items():
            self.current[key] = current_row(after)
            self.attempts |= by_key(AttemptRow, attempt_rows(after, before))
            self.leases |= by_key(LeaseRow, lease_rows(after, before))
            self.memory[key] = settled(after)

    def _load(self, key: WorkOrderKey) -> WorkOrder | None:
        row = self.current.get(key)
        if row is None:
            return None
        named = CurrentRow._make(row)
        values: Any = {
            name: orjson.loads(getattr(named, name)) for name in CurrentRow._fields if name.endswith("_json")
        }
        attempts = [r for r in self.attempts.values() if (r.tenant_id, r.work_order_id) == key]
        leases = [r for r in self.leases.values() if (r.tenant_id, r.work_order_id) == key]
        active = [lease_of_row(row) for row in leases if row.lease_state == "ACTIVE"]
        assert len(active) <= 1
        return replace(
            state_of_row(named._replace(**values)),
            attempts=dict(attempt_of_row(row) for row in attempts if row.status in OPEN_ATTEMPTS),
            lease=active[0] if active else None,
        )

    def rows(self) -> tuple[object, ...]:
        return self.ledger, self.current, self.attempts, self.leases


def records_of(events: Sequence[LedgerEvent]) -> list[Record]:
    """The records of events, all in one lane per tenant."""
    records = []
    for offset, event in enumerate(events):
        key = event.tenant_id.encode()
        partition = partition_of(key, 12)
        position = event_id_at(partition, offset)
        records.append(Record(position, read_content(position, key, encode_event(event), partition, 12), 0, None))
    return records


def folded(records: Sequence[Record], cuts: Sequence[int], *, forget: bool) -> Tables:
    tables = Tables()
    bounds = [0, *sorted(cut % (len(records) + 1) for cut in cuts), len(records)]
    for start, end in itertools.pairwise(bounds):
        tables.fold(records[start:end], forget=forget)
    return tables


@given(logs, st.lists(st.integers(0, 40), max_size=6), st.booleans())
def test_any_batch_split_gives_the_same_rows(events: list[LedgerEvent], cuts: list[int], forget: bool) -> None:
    records = records_of(events)
    whole, split = folded(records, [], forget=False), folded(records, cuts, forget=forget)
    assert split.decided == whole.decided
    assert split.rows() == whole.rows()


@given(step_logs, st.lists(st.integers(3, 9), max_size=2))
def test_any_batch_split_gives_the_same_attempts(events: list[LedgerEvent], cuts: list[int]) -> None:
    """A start that is refused or replayed writes no row: the closed one of before still counts."""
    records = records_of(events)
    whole, split = folded(records, [], forget=False), folded(records, [2, *cuts], forget=True)
    assert split.rows() == whole.rows()


@given(logs)
def test_replay_from_zero_equals_live(events: list[LedgerEvent]) -> None:
    live = folded(records_of(events), range(len(events)), forget=True)
    states: dict[WorkOrderKey, WorkOrder] = {}
    for position, event in sorted(live.ledger.items(), key=lambda entry: entry[0] & (2**42 - 1)):
        key = (event.tenant_id, event.work_order_id)
        states[key] = evolve(states.get(key), event, position)
    assert {key: current_row(state) for key, state in states.items()} == live.current
    assert by_key(AttemptRow, (row for state in states.values() for row in attempt_rows(state))) == live.attempts
    assert by_key(LeaseRow, (row for state in states.values() for row in lease_rows(state))) == live.leases


@given(logs, st.integers(0, 40))
def test_any_redelivery_changes_nothing(events: list[LedgerEvent], again: int) -> None:
    keyed = [replace(event, idempotency_key=event.idempotency_key or f"own-{i}") for i, event in enumerate(events)]
    book = Book()
    for event in keyed:
        book.append(event)
    states = dict(book.states)
    for index, event in enumerate(keyed[: again % (len(keyed) + 1)]):
        first = book.decided[index].outcome
        if isinstance(first, Refused):
            continue  # it bound nothing: sent again, it is another request
        outcome = book.append(event)
        if isinstance(first, Accepted):
            assert outcome == Replayed(book.decided[index].event_id, payload_differs=False)
        else:
            assert outcome == first
        assert book.states == states


@given(ledger_events())
def test_what_is_encoded_is_decoded_to_the_same(event: LedgerEvent) -> None:
    decoded = decode_event(encode_event(event))
    assert isinstance(decoded, SizedEvent)
    assert decoded.event == event
    assert canonical_json(event_to_json(decoded.event)) == canonical_json(event_to_json(event)), (
        "true stays true, 1 stays 1"
    )


@given(ledger_events())
def test_the_json_form_holds_the_whole_event(event: LedgerEvent) -> None:
    again = event_from_json(orjson.loads(orjson.dumps(event_to_json(event))))
    assert again == event


@given(logs)
def test_an_audit_event_keeps_its_bounds_and_survives_its_encoding(events: list[LedgerEvent]) -> None:
    book = Book()
    for event in events:
        book.append(event)
    for decided in book.decided:
        audit = audit_event(decided.event_id, decided.tenant_id, decided.event, decided.outcome, decided.broker_time)
        value = encode_audit(audit)
        assert decode_audit(value) == audit
        assert len(audit.payload_min) <= 24
        assert all(len(name) <= 64 and name.replace("_", "").isalnum() and name.islower() for name in audit.payload_min)
        assert all(len(text.encode()) <= 256 for text in audit.payload_min.values())
        assert sum(len(name) + len(text.encode()) for name, text in audit.payload_min.items()) <= 2048


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 255))
def test_no_bytes_make_the_decoder_raise(noise: bytes, at: int, byte: int) -> None:
    from .builders import make

    value = bytearray(encode_event(make("WORK_ORDER_CREATED")))
    value[10 + at % (len(value) - 10)] = byte
    for damaged in (bytes(value), bytes(value[: at % len(value)]), bytes(value[:10]) + noise):
        decode_event(damaged)
