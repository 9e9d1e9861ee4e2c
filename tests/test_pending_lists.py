"""Pending lists of any size are what the pure function makes of all records."""

import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Final

import pytest
import redis
from msgspec.structs import replace

from core_tables.projection.cache.entries import WHOLE, entry_of, key_of, members, newest
from core_tables.projection.cache.pending_cache import PendingCache, connect_cache
from core_tables.projection.fold.evolve import evolve
from core_tables.projection.fold.pending import (
    PendingOffer,
    PendingQuery,
    PendingRecord,
    listed,
    pending_list,
    pending_record,
)
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas import events
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.reasons import UnavailableError
from core_tables.schemas.vocabulary import DEFAULT_TOP_N, MAX_I64, MAX_TOP_N, PENDING_STATUSES, STATUSES, EventType

from .builders import HOUR, START, make
from .world import World, wait_until

ORDERS: Final = 500
TIMES: Final = 25  # few, so that many records are updated at the same time
# Ids that differ in their bytes alone, of which some begin with others.
IDS: Final = (
    "a",
    "a\x01",
    "a\x01b",
    "a ",
    "a~",
    "aa",
    "ab",
    "B",
    "é",
    "ﬁ",
    "🙂",
    "🙂a",
    "a\x7f",
    "a\x1f",
    "~",
    "ffff",
)
PENDING: Final = sorted(PENDING_STATUSES)


class Requester:
    """A requester's work orders, of which each event makes what the fold makes of it."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.chance = random.Random(seed)
        self._states: dict[str, WorkOrder] = {}

    def create(self, orders: int) -> Iterator[LedgerEvent]:
        """New work orders in pending statuses, with times that also go backwards."""
        for number in range(len(self._states), len(self._states) + orders):
            name = self.name + (IDS[number] if number < len(IDS) else f"{self.chance.choice(IDS)}{number}")
            payload = events.WorkOrderCreated(self.name, intent_type=name, missing_fields=["date"])
            yield self._event("WORK_ORDER_CREATED", name, self.chance.choice(PENDING), payload)

    def change(self, count: int) -> Iterator[LedgerEvent]:
        """Work orders change their status and time, and leave the list or come back."""
        statuses = [*PENDING, *PENDING, *(status for status in STATUSES if status != "CANCELED")]
        for name in self.chance.choices(sorted(self._states), k=count):
            yield self._event("FIELD_SET", name, self.chance.choice(statuses), events.FieldSet("city", "Oslo"))

    def _event(self, kind: EventType, name: str, status: str, payload: events.Payload) -> LedgerEvent:
        at = START + HOUR * self.chance.randrange(TIMES)
        event = make(
            kind, tenant_id="lists", work_order_id=name, created_at=at, work_order_status=status, payload=payload
        )
        self._states[name] = evolve(self._states.get(name), event, 1)
        return event

    def records(self) -> list[PendingRecord]:
        """All records that are pending now, in no order."""
        found = map(pending_record, self._states.values())
        return [replace(record, missing_fields=list(record.missing_fields)) for record in found if record is not None]

    def queries(self, count: int) -> Iterator[PendingQuery]:
        """Any statuses, windows that end on and next to the times of records, and all numbers of records."""
        chance = self.chance
        for _ in range(count):
            now = START + HOUR * chance.randrange(TIMES) + chance.choice((-1, 0, 1, 100 * HOUR))
            window = max(0, HOUR * chance.randrange(2 * TIMES) + chance.choice((-1, 0, 1, 100 * HOUR)))
            statuses = frozenset(chance.sample(PENDING, chance.randint(0, 3)))
            most = chance.choice((1, 2, DEFAULT_TOP_N, MAX_TOP_N))
            yield PendingQuery("lists", self.name, now, statuses, window, most)
        yield PendingQuery("lists", self.name, MAX_I64, recency_window=MAX_I64, top_n=MAX_TOP_N)
        yield PendingQuery("lists", self.name, 2 * MAX_I64, recency_window=0)
        yield PendingQuery("lists", self.name, -1, recency_window=5 * MAX_I64, top_n=1)


def plain(offers: Sequence[PendingOffer]) -> list[PendingOffer]:
    """Without the event ids, which the log gives."""
    return [replace(offer, last_event_id=1) for offer in offers]


@pytest.mark.parametrize("kept", [1, 5, 128])
def test_s6_the_newest_entries_of_each_status_answer_as_all_records_would_or_not_at_all(kept: int) -> None:
    ada = Requester("ada", kept)
    for _ in ada.create(60):
        pass
    stored = {
        status: members(
            sorted((r for r in ada.records() if r.work_order_status == status), key=entry_of)[: kept + 1], kept
        )
        for status in PENDING
    }
    answered = 0
    for query in ada.queries(300):
        found = newest([stored[status][: query.top_n] for status in sorted(query.status_set)], query)
        if found is not None:
            answered += 1
            assert found == listed(ada.records(), query), query
        else:
            assert query.top_n > kept, "a list that keeps as many as are asked for answers any query"
    assert answered > 50


def test_s6_a_marker_lies_behind_its_entry_and_before_all_that_can_follow_it() -> None:
    records = [PendingRecord(name, "1", "DRAFT", None, None, [], False, 1, at) for at in (5, 6) for name in IDS]
    in_order = listed(records, PendingQuery("t", "r", 6, top_n=MAX_TOP_N))
    assert sorted(map(entry_of, records)) == list(map(entry_of, in_order))
    for kept in range(1, len(in_order)):
        marked = members(in_order, kept)
        assert marked == sorted(marked)
        assert marked[-1] < entry_of(in_order[kept])
    assert members(in_order, len(in_order))[-1] == WHOLE


@pytest.mark.parametrize(
    "listed",
    [
        [],
        [b"x"],
        [b"\0"],
        [key_of(START, "a") + b"\0\xff", WHOLE],
        [key_of(START, "a") + b"\0{}", WHOLE],
        [key_of(START, "a") + b"\0[1]"],
    ],
)
def test_s6_a_list_that_is_not_as_it_should_be_answers_nothing(listed: list[bytes]) -> None:
    assert newest([listed], PendingQuery("t", "r", START)) is None


@pytest.fixture(scope="module")
def requesters(world: World) -> Iterator[list[Requester]]:
    """Requesters with no, a few and many records, while a worker folds; lists are cut soon."""
    made = [Requester(name, number) for number, name in enumerate(("none", "few", "many"))]
    with pytest.MonkeyPatch.context() as patch, world.working():
        patch.setattr(PendingCache, "longest", MAX_TOP_N + 20)
        patch.setattr(PendingCache, "kept", MAX_TOP_N)
        for requester, orders in zip(made, (0, len(IDS), ORDERS), strict=True):
            world.append(*requester.create(orders))
        world.drain()
        yield made


@pytest.mark.stack
@pytest.mark.parametrize("number", range(3), ids=("none", "few", "many"))
def test_s6_postgres_answers_what_the_pure_function_makes_of_all_records(
    world: World, requesters: list[Requester], number: int
) -> None:
    asked = requesters[number]
    with closing(Reads(ReadPool.connect(world.settings.reader(), "test"))) as reads:
        for query in asked.queries(60):
            answer = reads.pending(query)
            assert not answer.from_cache
            assert plain(answer.offers) == plain(pending_list(asked.records(), query)), query


@pytest.mark.stack
@pytest.mark.parametrize("number", range(3), ids=("none", "few", "many"))
def test_s6_the_cache_answers_the_same_whatever_changes_while_it_has_the_list(
    world: World, requesters: list[Requester], number: int
) -> None:
    asked = requesters[number]
    everything = PendingQuery("lists", asked.name, MAX_I64, recency_window=MAX_I64)
    from_cache = other = 0
    with closing(Reads(ReadPool.connect(world.settings.reader(), "test"))) as reads:
        for orders, changes in ((0, 0), (0, 20), (0, 150), (150, 0), (0, 300)):
            wait_until(lambda: world.reads.pending(everything).from_cache, "the cache to have the list")
            if number:
                world.append(*asked.create(orders), *asked.change(changes))
                world.drain()
            at = reads.pending(everything).position
            _wait_for_cache(world, everything, at)
            for query in asked.queries(40):
                answer = world.reads.pending(query)
                assert answer.position == at
                assert plain(answer.offers) == plain(pending_list(asked.records(), query)), query
                from_cache, other = from_cache + answer.from_cache, other + (not answer.from_cache)
    assert from_cache > 4 * other
    assert world.verify().differences == []


def _wait_for_cache(world: World, query: PendingQuery, at: int) -> None:
    wait_until(lambda: world.reads.pending(query).position == at, "the cache to be where Postgres is")


@pytest.mark.stack
@pytest.mark.usefixtures("requesters")
def test_a_connection_that_redis_has_closed_is_replaced_and_its_list_still_comes_from_the_cache(world: World) -> None:
    query = PendingQuery("lists", "few", MAX_I64, recency_window=MAX_I64)
    wait_until(lambda: world.reads.pending(query).from_cache, "the cache to have the list")
    with redis.Redis.from_url(str(world.settings.redis_url)) as admin:
        here = world.reads.pending(query)
        closed = admin.client_kill_filter(_type="normal", skipme=True)
    assert closed, "there was a connection to close"
    assert world.reads.pending(query) == here


@pytest.mark.stack
def test_a_cache_that_fails_is_left_alone_for_a_moment_and_ever_longer_while_that_lasts(world: World) -> None:
    """A program that did not get the processor for a moment does not lose the cache for seconds."""
    now, works = 0.0, False

    def url() -> str:
        """Read by each new connection. Where the stack sets no password, any is right."""
        if not works:
            raise UnavailableError("redis", "its password cannot be read")
        url = str(world.settings.redis_url)
        return url if "@" in url else url.replace("://", "://default:any@", 1)

    def seconds_until_it_is_asked_again() -> float:
        nonlocal now
        failures, begun = cache.failures, now
        while cache.failures == failures:
            now += 0.05
            cache.label(0)
        return now - begun

    works = True
    client = connect_cache(url)
    works = False
    cache = PendingCache(client, "topic", lambda: now)
    cache.label(0)
    assert cache.failures == 1
    asked_again = [seconds_until_it_is_asked_again() for _ in range(8)]
    assert asked_again == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0], abs=0.06)
    works, now = True, now + 5
    cache.label(0)
    assert cache.failures == 9
    works = False
    client.connection_pool.disconnect()
    cache.label(0)
    assert cache.failures == 10
    assert seconds_until_it_is_asked_again() == pytest.approx(0.1, abs=0.06)
    client.close()
