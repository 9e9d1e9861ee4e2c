"""Conformance: the pending list (contract, section 6), pure, and the same from Postgres and from the cache."""

from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from core_tables.projection.cache.logins import CACHE_RIGHTS
from core_tables.projection.fold.pending import PendingQuery, PendingRecord, checked, pending_list
from core_tables.schemas import events
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import CONTRACT_VALIDATION_FAILED, ContractError
from core_tables.schemas.vocabulary import PENDING_STATUSES, WorkOrderStatus

from .builders import HOUR, START, make
from .world import World, other_settings, wait_until

NOW = START + 1000 * HOUR
HOT, WARM = 72 * HOUR, 30 * 24 * HOUR


def record(work_order_id: str, age: int = 0, status: WorkOrderStatus = "DRAFT") -> PendingRecord:
    """A record that was touched `age` (ns) before NOW."""
    return PendingRecord(work_order_id, "1", status, None, None, [], False, 1, NOW - age)


def listed(records: list[PendingRecord], query: PendingQuery) -> list[str]:
    return [offer.work_order_id for offer in pending_list(records, checked(query))]


QUERY = PendingQuery("acme", "ada", NOW)


def test_s6_only_the_statuses_asked_for_are_listed() -> None:
    records = [record("a", 1, "DRAFT"), record("b", 2, "CLARIFY"), record("c", 3, "CONFIRM")]
    assert listed(records, QUERY) == ["a", "b", "c"]
    assert listed(records, QUERY._replace(status_set=frozenset({"CLARIFY"}))) == ["b"]
    assert listed(records, QUERY._replace(status_set=frozenset({"DRAFT", "CONFIRM"}))) == ["a", "c"]
    assert listed(records, QUERY._replace(status_set=frozenset())) == []


@pytest.mark.parametrize("status", ["EXECUTING", "DONE", "REFUSED", "FAILED", "CANCELED", "draft", ""])
def test_s6_a_status_that_is_never_pending_is_refused(status: str) -> None:
    with pytest.raises(ContractError) as refusal:
        checked(QUERY._replace(status_set=PENDING_STATUSES | {status}))
    assert (refusal.value.reason_code, refusal.value.field) == (CONTRACT_VALIDATION_FAILED, "status_set")


def test_s6_the_recency_window_includes_its_edge_and_nothing_older() -> None:
    assert listed([record("edge", WARM), record("older", WARM + 1)], QUERY) == ["edge"]
    narrow = QUERY._replace(recency_window=HOUR)
    assert listed([record("edge", HOUR), record("older", HOUR + 1)], narrow) == ["edge"]
    assert listed([record("now", 0), record("older", 1)], QUERY._replace(recency_window=0)) == ["now"]
    with pytest.raises(ContractError) as refusal:
        checked(QUERY._replace(recency_window=-1))
    assert refusal.value.field == "recency_window"


def test_s6_a_record_is_hot_up_to_72_hours_and_not_longer() -> None:
    offers = pending_list([record("edge", HOT), record("older", HOT + 1)], QUERY)
    assert [(offer.work_order_id, offer.hot) for offer in offers] == [("edge", True), ("older", False)]


@pytest.mark.parametrize(("top_n", "count"), [(1, 1), (10, 10), (100, 100)])
def test_s6_at_most_top_n_are_listed(top_n: int, count: int) -> None:
    records = [record(f"{number:03}", number) for number in range(150)]
    assert listed(records, QUERY._replace(top_n=top_n)) == [f"{number:03}" for number in range(count)]


def test_s6_ten_are_listed_where_nobody_says_how_many() -> None:
    assert len(listed([record(f"{number:03}") for number in range(20)], QUERY)) == 10


@pytest.mark.parametrize("top_n", [0, 101, -1])
def test_s6_top_n_is_from_1_to_100(top_n: int) -> None:
    with pytest.raises(ContractError) as refusal:
        checked(QUERY._replace(top_n=top_n))
    assert (refusal.value.reason_code, refusal.value.field) == (CONTRACT_VALIDATION_FAILED, "top_n")


def test_s6_the_most_recent_comes_first_and_ties_are_by_work_order_id_byte_by_byte() -> None:
    records = [record("b", 5), record("é", 5), record("a", 5), record("Z", 5), record("newest", 0)]
    assert listed(records, QUERY) == ["newest", "Z", "a", "b", "é"]


@pytest.fixture(scope="module")
def _three_orders(world: World) -> Iterator[None]:
    """Three work orders of ada's, one of each pending status, one hour apart, and one that belongs to somebody else."""
    with world.working():
        for age, status in ((0, "DRAFT"), (HOT, "CLARIFY"), (HOT + 1, "CONFIRM")):
            order = make("WORK_ORDER_CREATED", work_order_id=status, created_at=NOW - age, work_order_status=status)
            assert world.outcome(order) == Accepted()
        other = make("WORK_ORDER_CREATED", work_order_id="bobs", payload=events.WorkOrderCreated("bob"))
        assert world.outcome(other) == Accepted()
        yield


@pytest.mark.stack
@pytest.mark.usefixtures("_three_orders")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (QUERY, [("DRAFT", True), ("CLARIFY", True), ("CONFIRM", False)]),
        (QUERY._replace(status_set=frozenset({"CLARIFY"})), [("CLARIFY", True)]),
        (QUERY._replace(recency_window=HOT), [("DRAFT", True), ("CLARIFY", True)]),
        (QUERY._replace(recency_window=HOT - 1), [("DRAFT", True)]),
        (QUERY._replace(top_n=1), [("DRAFT", True)]),
        (QUERY._replace(requester_user_id="nobody"), []),
    ],
)
def test_s6_the_cache_and_postgres_give_the_same_list(
    world: World, query: PendingQuery, expected: list[tuple[str, bool]]
) -> None:
    import redis

    def answers(from_cache: bool) -> list[tuple[str, bool]] | None:
        answer = world.reads.pending(query)
        if answer.from_cache is not from_cache:
            return None
        return [(offer.work_order_id, offer.hot) for offer in answer.offers]

    with redis.Redis.from_url(world.stack.redis_url) as client:
        client.flushall()
    assert answers(from_cache=False) == expected
    wait_until(lambda: answers(from_cache=True) is not None, "the cache to hold the list")
    assert answers(from_cache=True) == expected


@pytest.mark.stack
@pytest.mark.parametrize(
    "wrong", [{"top_n": 0}, {"top_n": 101}, {"status_set": frozenset({"DONE"})}, {"requester_user_id": "a\0"}]
)
def test_s6_a_query_that_no_list_can_answer_is_refused_by_the_read(world: World, wrong: dict[str, object]) -> None:
    with pytest.raises(ContractError) as refusal:
        world.reads.pending(QUERY._replace(**wrong))  # type: ignore[arg-type]
    assert refusal.value.field in wrong


@pytest.mark.stack
def test_a_login_of_redis_that_may_only_read_gets_lists_from_the_cache_and_cannot_forge_them(world: World) -> None:
    """With the least rights that `grants` prints, for the worker, too."""
    admin: Any = redis.Redis.from_url(str(world.settings.redis_url))
    address = urlsplit(str(world.settings.redis_url))
    urls = {}
    for name, rights in CACHE_RIGHTS.items():
        admin.execute_command(*rights.rule(f"{world.name}_{name}").split())
        admin.execute_command("ACL", "SETUSER", f"{world.name}_{name}", ">secret")
        urls[name] = f"redis://{world.name}_{name}:secret@{address.hostname}:{address.port}/0"
    reader, filler, worker = (other_settings(world, redis_url=urls[name]) for name in ("reader", "filler", "worker"))
    query = PendingQuery("read-only", "ada", NOW)

    def cached_for(program: World, at_least: int) -> list[str] | None:
        answer = program.reads.pending(query, at_least=at_least)
        return [offer.work_order_id for offer in answer.offers] if answer.from_cache else None

    with worker.working():
        for names in (["first"], ["first", "second"]):
            event = make("WORK_ORDER_CREATED", tenant_id="read-only", work_order_id=names[-1], created_at=NOW)
            (receipt,) = world.append(event)
            assert receipt.outcome(60) == Accepted()
            cached = partial(cached_for, at_least=receipt.event_id())
            if names == ["first"]:
                assert cached(reader) is None, "nobody who may has stored the list"
            for program in (filler, reader):  # a cache that is too slow is not used for a moment, and is behind then
                assert wait_until(partial(cached, program), "the cached list") == names
    for program in (reader, filler, worker):
        program.close()
    with pytest.raises(redis.exceptions.NoPermissionError):
        redis.Redis.from_url(urls["reader"]).hset("ct:forged", "a", "b")
    admin.execute_command("ACL", "DELUSER", *(f"{world.name}_{name}" for name in CACHE_RIGHTS))
