"""Pending lists of any size are what the pure function makes of all records."""

import random
from collections.abc import Iterator
from typing import Final

import pytest
from msgspec import Struct

from core_tables.projection.fold.evolve import evolve
from core_tables.projection.fold.pending import PendingQuery, PendingRecord, pending_list, pending_record
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.schemas import events
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.vocabulary import DEFAULT_TOP_N, MAX_I64, MAX_TOP_N, PENDING_STATUSES, STATUSES

from .builders import HOUR, START, make
from .world import World

pytestmark = pytest.mark.stack

ORDERS: Final = 400
TIMES: Final = 25  # few, so that many records are updated at the same time
# Ids that differ in their bytes alone, of which some begin with others.
IDS: Final = ("a", "a\x01", "a\x01b", "a ", "a~", "aa", "ab", "B", "é", "ﬁ", "🙂", "🙂a", "a\x7f", "a\x1f")


class Life(Struct):
    """The events of the work orders of one requester, and what they come to."""

    requester: str
    changes: list[LedgerEvent]
    records: list[PendingRecord]


def life(requester: str, orders: int, chance: random.Random) -> Life:
    """Work orders in any status, updated at few times that also go backwards."""
    found, changes = [], []
    for number in range(orders):
        name = requester + (IDS[number] if number < len(IDS) else f"{chance.choice(IDS)}{number}")
        state: WorkOrder | None = None
        for step in range(chance.randint(1, 3)):
            status = chance.choice(
                [*PENDING_STATUSES, *PENDING_STATUSES, *STATUSES] if step else sorted(PENDING_STATUSES)
            )
            event = make(
                "FIELD_SET" if step else "WORK_ORDER_CREATED",
                tenant_id="lists",
                work_order_id=name,
                created_at=START + HOUR * chance.randrange(TIMES),
                work_order_status="EXECUTING" if status == "CANCELED" else status,
                payload=events.FieldSet("city", "Oslo")
                if step
                else events.WorkOrderCreated(requester, intent_type=name),
            )
            changes.append(event)
            state = evolve(state, event, 1)
        assert state is not None
        record = pending_record(state)
        found += [] if record is None else [record]
    return Life(requester, changes, found)


@pytest.fixture(scope="module")
def lives(world: World) -> Iterator[list[Life]]:
    """Requesters with no, a few and many records, while a worker folds."""
    chance = random.Random(20_261_127)
    made = [life(requester, orders, chance) for requester, orders in (("none", 0), ("few", 14), ("many", ORDERS))]
    with world.working():
        world.append(*(event for each in made for event in each.changes))
        world.drain()
        yield made


def queries(requester: str, chance: random.Random) -> Iterator[PendingQuery]:
    """Any statuses, windows that end on and next to the times of records, and all numbers of records."""
    for _ in range(60):
        now = START + HOUR * chance.randrange(TIMES) + chance.choice((-1, 0, 1, 100 * HOUR))
        yield PendingQuery(
            "lists",
            requester,
            now,
            frozenset(chance.sample(sorted(PENDING_STATUSES), chance.randint(0, 3))),
            HOUR * chance.randrange(TIMES * 2) + chance.choice((-1, 0, 1, 100 * HOUR))
            if chance.random() < 0.8
            else now,
            chance.choice((1, 2, DEFAULT_TOP_N, MAX_TOP_N)),
        )
    yield PendingQuery("lists", requester, MAX_I64, recency_window=MAX_I64, top_n=MAX_TOP_N)
    yield PendingQuery("lists", requester, 2 * MAX_I64, recency_window=0)
    yield PendingQuery("lists", requester, -1, recency_window=5 * MAX_I64, top_n=1)


@pytest.mark.parametrize("number", range(3), ids=("none", "few", "many"))
def test_s6_postgres_answers_what_the_pure_function_makes_of_all_records(
    world: World, lives: list[Life], number: int
) -> None:
    asked = lives[number]
    by_id = {record.work_order_id: record for record in asked.records}
    for query in queries(asked.requester, random.Random(number)):
        if query.recency_window < 0:
            continue
        expected = [(offer.record.work_order_id, offer.hot) for offer in pending_list(asked.records, query)]
        answer = world.reads.pending(query)
        assert [(offer.record.work_order_id, offer.hot) for offer in answer.offers] == expected, query
        for offer in answer.offers:
            wanted = by_id[offer.record.work_order_id]
            assert offer.record.last_updated_at == wanted.last_updated_at
            assert offer.record.work_order_status == wanted.work_order_status
