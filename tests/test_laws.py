"""The laws of the fold, as properties: redelivery changes nothing, replay equals live, any split gives the same."""

import itertools
from collections.abc import Sequence

import orjson
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from core_tables.consumer.audit_encoding import audit_of
from core_tables.projection.fold.batch import fold_in_parts, read_content
from core_tables.projection.fold.evolve import evolve
from core_tables.projection.fold.needs import ANY_KEY, Known
from core_tables.projection.fold.values import Changed, Decided, KnownState, Record, WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder, settled
from core_tables.schemas.audit import decode_audit, encode_audit
from core_tables.schemas.events import LedgerEvent, SizedEvent
from core_tables.schemas.identity import event_id_at, offset_of, partition_of
from core_tables.schemas.json_form import canonical_json, event_from_json, event_to_json
from core_tables.schemas.outcomes import Accepted, Refused, Replayed
from core_tables.schemas.reasons import UnknownSchemaError, Violation
from core_tables.schemas.wire import KNOWN_SCHEMAS, MARKER, decode_event, encode_event, lane_schemas

from .book import Book
from .both_folds import BothFolds
from .contract_fold import broken_schema
from .strategies import ledger_events, logs, step_logs
from .tables import Tables


class Live:
    """The fold in batches over the tables, as the worker does it; it may forget the states after each."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.decided: list[Decided] = []
        self._memory: Known = {}

    def fold(self, records: Sequence[Record], *, forget: bool) -> None:
        """Load what a batch needs and is not in memory, fold it, and write what it changed."""
        if forget:
            self._memory = {}
        changed: Changed = {}
        parts = fold_in_parts(records, self.tables.load(records, self._memory), changed, size=3)
        decided = [each for part in parts for each in part]
        self.tables.write(decided, changed)
        self.decided += decided
        self._memory |= {key: KnownState(settled(after), ANY_KEY) for key, (_, after) in changed.items()}


def records_of(events: Sequence[LedgerEvent]) -> list[Record]:
    """The records of events, all in one lane per tenant."""
    records = []
    for offset, event in enumerate(events):
        key = event.tenant_id.encode()
        partition = partition_of(key, 12)
        event_id = event_id_at(partition, offset)
        records.append(
            Record(event_id, read_content(event_id, key, encode_event(event), partition, 12, KNOWN_SCHEMAS), 0, None)
        )
    return records


def folded(records: Sequence[Record], cuts: Sequence[int], *, forget: bool) -> Live:
    live = Live()
    bounds = [0, *sorted(cut % (len(records) + 1) for cut in cuts), len(records)]
    for start, end in itertools.pairwise(bounds):
        live.fold(records[start:end], forget=forget)
    return live


@given(logs, st.lists(st.integers(0, 40), max_size=6), st.booleans())
def test_any_batch_split_gives_the_same_rows(events: list[LedgerEvent], cuts: list[int], forget: bool) -> None:
    records = records_of(events)
    whole, split = folded(records, [], forget=False), folded(records, cuts, forget=forget)
    assert split.decided == whole.decided
    assert split.tables == whole.tables


@given(step_logs, st.lists(st.integers(3, 9), max_size=2))
def test_any_batch_split_gives_the_same_attempts(events: list[LedgerEvent], cuts: list[int]) -> None:
    """A start that is refused or replayed writes no row: the closed one of before still counts."""
    records = records_of(events)
    whole, split = folded(records, [], forget=False), folded(records, [2, *cuts], forget=True)
    assert split.tables == whole.tables


@given(logs)
def test_replay_from_zero_equals_live(events: list[LedgerEvent]) -> None:
    live = folded(records_of(events), range(len(events)), forget=True)
    states: dict[WorkOrderKey, WorkOrder] = {}
    for event_id, event in sorted(live.tables.events().items(), key=lambda entry: offset_of(entry[0])):
        key = (event.tenant_id, event.work_order_id)
        states[key] = evolve(states.get(key), event, event_id)
    replayed = Tables(live.tables.ledger, live.tables.outcomes)
    for state in states.values():
        replayed.put(state)
    assert replayed == live.tables


@given(logs)
def test_a_fold_written_from_the_contract_alone_decides_the_same_and_leaves_the_same_rows(
    events: list[LedgerEvent],
) -> None:
    both = BothFolds()
    for event in events:
        both.append(event)


@given(step_logs)
def test_that_fold_leaves_the_same_attempts(events: list[LedgerEvent]) -> None:
    both = BothFolds()
    for event in events:
        both.append(event)


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
            assert outcome == Replayed(book.decided[index].event_id, request_differs=False)
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
        audit = audit_of(decided)
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


@given(
    st.sampled_from(["aa" * 8, "bb" * 8]),
    st.integers(0, 3),
    st.dictionaries(st.sampled_from(["aa" * 8, "bb" * 8]), st.integers(0, 3)),
    st.integers(0, 12),
)
def test_the_records_that_are_refused_for_their_schema_are_those_of_the_contract(
    fingerprint: str, offset: int, registered: dict[str, int], length: int
) -> None:
    value = (MARKER + bytes.fromhex(fingerprint) + b"body")[:length]
    why = broken_schema(value, offset, registered)
    try:
        found = decode_event(value, offset, lane_schemas(registered))
    except UnknownSchemaError:
        assert why is None
    else:
        assert isinstance(found, Violation)
        assert (found.reason_code, found.field) == why
