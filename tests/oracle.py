"""The whole oracle: after a fault, topic, decisions, tables, cache and audit say the same; nothing is missing or doubled."""

import itertools
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from confluent_kafka import Message
from psycopg.rows import class_row

from core_tables.cli import wiring
from core_tables.consumer.audit_encoding import audit_of
from core_tables.projection.fold.batch import decided_request, decided_unreadable, read_content
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.fold.values import Decided, Record, Request
from core_tables.projection.postgres.from_rows import outcome_of_row
from core_tables.projection.postgres.lanes import LanePosition
from core_tables.projection.postgres.row_types import OutcomeRow
from core_tables.projection.verify.against_topic import LaneLog, rows_by_lane, verify_lane
from core_tables.schemas.audit import decode_audit, encode_audit
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import event_id_at, lane_of, offset_of
from core_tables.schemas.outcomes import ACCEPTED, Outcome
from core_tables.schemas.vocabulary import NS_PER_HOUR, NS_PER_MS
from core_tables.schemas.wire import encode_event, lane_schemas

from .both_folds import as_the_contract_fold_says, plain
from .builders import START
from .contract_fold import ContractFold, broken_schema
from .world import World, wait_until

_numbers = itertools.count(1)


class Kept(NamedTuple):
    """A record as it lies in the topic, and as it was read."""

    partition: int
    message: Message
    record: Record


Records = dict[int, Kept]  # by event id


def check_everything(world: World, appended: int, *, unknown: Collection[LedgerEvent] = ()) -> None:
    """What the project promises, of a topic that holds `appended` records and is folded to its end.

    `unknown` are the events of sends that got no answer: each may be there or not. All others were acknowledged to
    `World.append`.
    """
    records = _topic(world)
    _check_appends(world, records, appended, unknown)
    _check_decisions(world, records)
    _check_contract(world, records)
    with _another_worker(world):
        world.drain()
        _check_cached_lists(world)
        differences = world.verify().differences
        assert differences == [], differences[:5]
    _check_audit(world, records)


def _topic(world: World) -> Records:
    first_lane, positions = wiring.known_topic(world.settings).first_lane, _positions(world)
    kept: Records = {}
    for partition, messages in world.messages(world.settings.topic).items():
        schemas = lane_schemas(positions[first_lane + partition].schemas)
        for message in messages:
            event_id = event_id_at(first_lane + partition, message.offset() or 0)
            key, value, partitions = message.key(), message.value(), world.settings.partitions
            content = read_content(event_id, key, value, partition, partitions, schemas)
            record = Record(event_id, content, message.timestamp()[1] * NS_PER_MS, None)
            kept[event_id] = Kept(partition, message, record)
    return kept


def _check_appends(world: World, records: Records, appended: int, unknown: Collection[LedgerEvent]) -> None:
    """Every acknowledged append lies at its id, byte for byte; and except for sends without an answer, nothing else does."""
    assert len(records) == appended, f"{len(records)} records in the topic, {appended} were appended"
    for event_id, event in world.acknowledged.items():
        assert event_id in records, f"the acknowledged append {event_id} is lost"
        message = records[event_id].message
        same = (message.key(), message.value()) == (event.tenant_id.encode(), encode_event(event))
        assert same, f"record {event_id} is not what was appended: {event}"
    possible = {(event.tenant_id.encode(), encode_event(event)) for event in unknown}
    for event_id in records.keys() - world.acknowledged.keys():
        message = records[event_id].message
        assert (message.key(), message.value()) in possible, f"record {event_id} was appended by nobody, or twice"


def _check_decisions(world: World, records: Records) -> None:
    """Ledger and outcome rows are the fold of the topic's records: what `verify --topic` compares, of records read once."""
    logs: dict[int, list[Record]] = {}
    for event_id, kept in records.items():
        logs.setdefault(lane_of(event_id), []).append(kept.record)
    compared = 0
    begins = event_id_at(wiring.known_topic(world.settings).first_lane, 0)
    for database in world.settings.databases():
        with closing(wiring.operator(database)) as connection, connection.transaction():
            rows = rows_by_lane(connection)
            for lane, folded in wiring.positions(world.settings, connection).items():
                end = len(logs.get(lane, ()))
                log = LaneLog(lane, begins, 0, end, folded.applied, rows[lane])
                for count, differences in verify_lane(connection, log, logs.get(lane, ())):
                    assert differences == [], differences[:5]
                    compared += count
    assert compared == len(records)


@contextmanager
def _another_worker(world: World) -> Iterator[None]:
    """A worker of a group that nobody died in: it finds nothing to fold or to audit again, and keeps the cache's labels."""
    usual = world.settings
    world.settings = usual.model_copy(update={"group_id": f"{world.name}-oracle-{next(_numbers)}"})
    try:
        with world.working() as running:
            yield
        assert running.errors == []
        assert running.worker.folded_records == 0, "something was still to be folded"
    finally:
        world.settings = usual


def _check_cached_lists(world: World) -> None:
    """The list of every requester comes to be served by the cache, and is then what Postgres says, at the same position."""
    if world.settings.cache() is None:
        return
    lists = world.asked(
        "select tenant_id, requester_user_id, count(*) filter (where work_order_status in ('DRAFT', 'CLARIFY', 'CONFIRM')) "
        "from os_core.work_orders_current where requester_user_id is not null group by 1, 2"
    )
    assert lists, "no list to compare"
    plain = wiring.reads_of_tables(world.settings)
    cached = wiring.reads(world.settings)
    with closing(plain), closing(cached):
        for tenant, requester, pending in lists:
            query = PendingQuery(tenant, requester, START + NS_PER_HOUR, top_n=100)
            expected = plain.pending(query)
            assert len(expected.offers) == min(100, pending)
            answer = wait_until(
                lambda query=query: (found := cached.pending(query)).from_cache and found,  # type: ignore[misc]
                f"the cache to serve the list of {tenant}/{requester}",
            )
            assert answer == expected._replace(from_cache=True), f"the cached list of {tenant}/{requester} differs"


def _check_audit(world: World, records: Records) -> None:
    """Of every partition, the audit events that a read_committed reader sees are its records' outcomes, in order, each once."""
    outcomes, statuses = _outcomes(world)
    assert outcomes.keys() == records.keys(), "each record has one outcome, and nothing else has"
    audits = world.messages(world.settings.audit_topic)
    expected: dict[int, list[Decided]] = {partition: [] for partition in audits}
    for event_id, kept in records.items():
        expected[kept.partition].append(_decided(kept.record, outcomes[event_id], statuses.get(event_id)))
    for partition, found in audits.items():
        ids = [decode_audit(message.value() or b"").event_id for message in found]
        wanted = [item.event_id for item in expected[partition]]
        assert ids == wanted, f"partition {partition}: {len(ids)} audit events, {len(wanted)} records, or out of order"
        for item, message in zip(expected[partition], found, strict=True):
            event = audit_of(item)
            same = (message.key(), message.value()) == (item.tenant_id.encode(), encode_audit(event))
            assert same, f"{decode_audit(message.value() or b'')} instead of {event}"


def _outcomes(world: World) -> tuple[dict[int, Outcome], dict[int, Any]]:
    """The outcomes by event id, and the status before each accepted event."""
    accepted = world.asked("select work_order_event_id, status_before from os_core.work_order_ledger")
    others: list[OutcomeRow] = []
    columns = ", ".join(OutcomeRow.__struct_fields__)  # without the generated one
    for admin in world.admins:
        with admin.cursor(row_factory=class_row(OutcomeRow)) as cursor:
            others += cursor.execute(f"select {columns} from os_core.work_order_outcomes".encode()).fetchall()
    assert not {row[0] for row in accepted} & {row.event_id for row in others}, "a record has two outcomes"
    outcomes = {row[0]: ACCEPTED for row in accepted} | {row.event_id: outcome_of_row(row) for row in others}
    return outcomes, dict(accepted)


def _check_contract(world: World, records: Records) -> None:
    """What became of each record is what the contract says, in a fold that was written from it alone."""
    outcomes, statuses = _outcomes(world)
    folds: dict[int, ContractFold] = {}
    positions = _positions(world)
    for event_id, kept in sorted(records.items()):
        content, lane = kept.record.content, lane_of(event_id)
        if why := broken_schema(kept.message.value(), offset_of(event_id), dict(positions[lane].schemas)):
            assert as_the_contract_fold_says(outcomes[event_id], None) == ("refused", *why), f"record {event_id}"
        if not isinstance(content, Request):
            continue
        fold = folds.setdefault(kept.partition, ContractFold())
        expected = fold.append(event_id, plain(content.event), content.payload_bytes)
        actual = as_the_contract_fold_says(outcomes[event_id], statuses.get(event_id))
        assert actual == expected, f"record {event_id}: {content.event}"


def _positions(world: World) -> dict[int, LanePosition]:
    found: dict[int, LanePosition] = {}
    for database in world.settings.databases():
        with closing(wiring.operator(database)) as connection:
            found |= wiring.positions(world.settings, connection)
    return found


def _decided(record: Record, outcome: Outcome, status_before: Any) -> Decided:
    content = record.content
    if isinstance(content, Request):
        return decided_request(record, content, outcome, status_before)
    return decided_unreadable(record, content, outcome)
