"""What verify, rebuild and the drift auditor see, and what they say to do next."""

import json
import subprocess
import sys
import threading
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from confluent_kafka import Producer

from core_tables.cli import output, wiring
from core_tables.cli.drift import Drift
from core_tables.cli.ledger_log import verify_against_topic
from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.connection import connect
from core_tables.projection.postgres.row_types import CurrentRow
from core_tables.projection.postgres.statements import sql
from core_tables.projection.verify import repair
from core_tables.projection.verify.facts import estimate
from core_tables.projection.verify.report import Difference, Report, Scope
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.outcomes import Accepted, Refused, Replayed
from core_tables.schemas.reasons import UnavailableError
from core_tables.schemas.wire import encode_event

from .builders import START, make
from .world import World, wait_until

pytestmark = pytest.mark.stack

ACME = partition_of(b"acme", 12)
GHOST = """
    insert into os_core.work_order_ledger
    select (jsonb_populate_record(row, jsonb_build_object(
        'tenant_id', %s::text, 'work_order_event_id', %s::bigint, 'idempotency_key', null))).*
    from os_core.work_order_ledger as row limit 1
"""


@pytest.fixture
def one(fresh: World) -> World:
    """A world with one work order, folded and audited, and no worker."""
    with fresh.working():
        assert fresh.outcome(make("WORK_ORDER_CREATED", idempotency_key="create")) == Accepted()
        fresh.drain()
    return fresh


def verify_topic(world: World) -> list[Difference]:
    connection = wiring.operator(world.settings)
    try:
        return verify_against_topic(world.settings, [connection], lambda _: None).differences
    finally:
        connection.close()


def rebuild(world: World, **options: Any) -> Report:
    connection = connect(world.settings.worker(), name="test rebuild", **options)
    try:
        return repair.rebuild(connection, Scope(), cache=wiring.cache(world.settings, connection))
    finally:
        connection.close()


def test_gaps_of_the_log_are_no_differences_and_no_lag_but_a_missing_row_is_one(fresh: World) -> None:
    """A program that appends in transactions leaves a gap after each, and one at the log's end."""
    settings = {"bootstrap.servers": fresh.stack.bootstrap_servers, "transactional.id": f"{fresh.name}-foreign"}
    producer = Producer(settings)
    producer.init_transactions(20)
    for turn in range(1, 6):
        producer.begin_transaction()
        producer.produce(fresh.settings.topic, encode_event(make("FIELD_SET", turn_id=turn)), b"acme", ACME)
        producer.commit_transaction(20)
    with fresh.working():
        wait_until(lambda: fresh.positions()[ACME] == (9, 9), "the lane to be folded and audited")
    assert fresh.command("verify").returncode == output.EXIT_OK
    assert fresh.command("verify", "--topic").returncode == output.EXIT_OK
    lanes = [json.loads(line) for line in fresh.command("status", "--json").stdout.splitlines()]
    assert (lanes[ACME]["log_end"], lanes[ACME]["applied"], lanes[ACME]["lag"]) == (10, 9, 0)
    fresh.delete_records({ACME: 3})
    assert fresh.command("verify").returncode == output.EXIT_OK, "what is gone had as many records as there are rows"
    fresh.admin.execute("alter table os_core.work_order_ledger disable trigger append_only")
    fresh.admin.execute(
        f"delete from os_core.work_order_ledger where work_order_event_id = {event_id_at(ACME, 4)}".encode()
    )
    done = fresh.command("verify")
    assert done.returncode == output.EXIT_DIFFERENCES
    assert f"lane {ACME}: 5 records folded, 4 rows" in done.stdout.decode()
    assert "next: core-tables verify --topic" in done.stdout.decode()


@pytest.mark.parametrize(
    ("tenant", "lane", "offset"),
    [("other", ACME, 0), ("acme", ACME, 9_000), ("acme", 2_000, 0)],
    ids=["the id of a record, under another tenant", "above the log's end", "in no lane"],
)
def test_a_row_that_no_record_explains_is_found(one: World, tenant: str, lane: int, offset: int) -> None:
    assert one.verify().differences == []
    one.admin.execute(GHOST, (tenant, event_id_at(lane, offset)))
    found = one.verify().differences if lane == 2_000 else verify_topic(one)
    assert any("no record explains" in one.what or "0 records folded, 1 rows" in one.what for one in found), found


def test_a_log_that_ends_below_what_was_folded_is_a_difference(one: World) -> None:
    one.admin.execute("update os_core.lanes set applied = 5 where lane = %s", (ACME,))
    (found,) = verify_topic(one)
    assert "5 offsets were folded, but the log holds those from 0 to 1" in found.what


def test_the_lanes_of_a_later_topic_are_compared_with_what_the_topics_before_decided(one: World) -> None:
    (first,) = (row[1] for row in one.rows("work_order_ledger"))
    names = {"topic": f"{one.name}.ledger.v2", "audit_topic": f"{one.name}.audit.v2", "group_id": f"{one.name}-2"}
    one.close()
    one.settings = one.settings.model_copy(update=names)
    one.reconnect()
    one.init()
    with one.working():
        assert one.outcome(make("WORK_ORDER_CREATED", idempotency_key="create")) == Replayed(first, False)
        assert not isinstance(one.outcome(make("WORK_ORDER_CREATED")), Accepted), "it was created before"
        assert not isinstance(
            one.outcome(
                make("WORK_ORDER_CREATED", work_order_id="order-2", correlation_id=make("FIELD_SET").correlation_id)
            ),
            Accepted,
        )
        assert one.outcome(make("FIELD_SET")) == Accepted()
    assert verify_topic(one) == []
    one.admin.execute("alter table os_core.work_order_outcomes disable trigger append_only")
    one.admin.execute("update os_core.work_order_outcomes set first_event_id = 7 where outcome = 'REPLAYED'")
    assert [found.table for found in verify_topic(one)] == ["work_order_outcomes"]


@pytest.fixture
def beheaded(fresh: World) -> World:
    """A world whose first two records were folded, and are gone from the topic; what is left was decided by them."""
    created = make("WORK_ORDER_CREATED", idempotency_key="create")
    with fresh.working():
        first, _ = fresh.append(created, make("LEASE_ACQUIRED", turn_id=2))
        assert fresh.outcome(created) == Replayed(first.event_id(), False)
        assert fresh.outcome(make("LEASE_RENEWED", turn_id=3)) == Accepted()
        assert isinstance(fresh.outcome(make("WORK_ORDER_CREATED")), Refused), "it was created before"
        other = make("WORK_ORDER_CREATED", work_order_id="order-2", correlation_id=created.correlation_id)
        assert isinstance(fresh.outcome(other), Refused), "the thread was bound before"
        fresh.drain()
    assert verify_topic(fresh) == []
    fresh.delete_records({ACME: 2})
    return fresh


BEHEADED = f"lane {ACME}: 6 offsets were folded, but the log holds those from 2 to 6"


def test_what_a_topic_has_left_is_compared_when_its_first_records_are_gone(beheaded: World) -> None:
    assert [found.what for found in verify_topic(beheaded)] == [BEHEADED]
    done = beheaded.command("verify", "--topic")
    assert done.returncode == output.EXIT_DIFFERENCES
    assert "4 records compared, 4 equal, 1 differences" in done.stdout.decode()


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (
            f"update os_core.work_order_ledger set reason_code = 77 where work_order_event_id = {event_id_at(ACME, 3)}",
            f"record {event_id_at(ACME, 3)}: differs from the record",
        ),
        (
            f"delete from os_core.work_order_outcomes where event_id = {event_id_at(ACME, 4)}",
            f"record {event_id_at(ACME, 4)}: row missing",
        ),
        (
            f"update os_core.work_order_outcomes set event_id = {event_id_at(ACME, 9)} where event_id = {event_id_at(ACME, 5)}",
            f"record {event_id_at(ACME, 5)}: row missing|lane {ACME}: 1 rows that no record explains",
        ),
    ],
    ids=["a changed row", "a missing one", "one under another id"],
)
def test_a_planted_difference_is_found_above_the_records_that_are_gone(beheaded: World, plant: str, found: str) -> None:
    for table in ("work_order_ledger", "work_order_outcomes"):
        beheaded.admin.execute(f"alter table os_core.{table} disable trigger append_only".encode())
    assert beheaded.admin.execute(plant.encode()).rowcount == 1
    differences = [difference.what for difference in verify_topic(beheaded)]
    assert len(differences) == 1 + len(found.split("|"))
    assert differences[0] == BEHEADED
    assert all(any(part in what for what in differences[1:]) for part in found.split("|")), differences


def test_a_list_of_the_cache_that_differs_is_forgotten_by_a_rebuild(fresh: World) -> None:
    query = PendingQuery("acme", "ada", START)
    with fresh.working():
        assert fresh.outcome(make("WORK_ORDER_CREATED")) == Accepted()
        wait_until(lambda: fresh.reads.pending(query).from_cache, "the cache to answer")
        cache = wiring.cache(fresh.settings, fresh.store().connection)
        assert cache is not None
        label = wait_until(lambda: cache.label(ACME), "the cache to tell its label")
        cache.fill(label, ACME, ("acme", "ada"), [])
        assert [found.table for found in fresh.verify().differences] == ["cache"]
        done = fresh.command("verify")
        assert done.stdout.decode().endswith("next: core-tables rebuild\n")
        assert rebuild(fresh).repaired == 0
        assert fresh.verify().differences == []
        assert [offer.work_order_id for offer in fresh.reads.pending(query).offers] == ["order-1"]


def test_a_rebuild_that_waits_too_long_for_a_lane_tries_its_chunk_again_and_says_so(one: World) -> None:
    said: list[str] = []
    holder = psycopg.connect(one.settings.admin())
    holder.execute("select from os_core.lanes where lane = %s for update", (ACME,))

    def notice(sentence: str) -> None:
        said.append(sentence)
        holder.rollback()

    connection = connect(one.settings.worker(), name="test rebuild", lock_timeout_ms=200)
    try:
        assert repair.rebuild(connection, Scope(), notice=notice).compared == 1
    finally:
        connection.close()
        holder.close()
    assert len(said) == 1
    assert "trying again" in said[0]


def test_a_rebuild_that_stands_still_lets_its_lanes_go(one: World, monkeypatch: pytest.MonkeyPatch) -> None:
    standing, go_on = threading.Event(), threading.Event()
    real = repair.replace_rows

    def stand_still(*arguments: Any) -> None:
        standing.set()
        go_on.wait(30)
        real(*arguments)

    monkeypatch.setattr(repair, "replace_rows", stand_still)
    one.admin.execute("update os_core.work_orders_current set turn_id = 77")
    failed: list[BaseException] = []

    def run() -> None:
        try:
            rebuild(one, transaction_timeout_ms=300)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert standing.wait(30), "the rebuild holds its lanes"
    one.admin.execute("set lock_timeout = '20s'")
    one.admin.execute("select from os_core.lanes for update")  # raises if they are not let go
    go_on.set()
    thread.join()
    assert isinstance(failed[0], UnavailableError)


def test_a_sample_is_taken_from_the_whole_of_a_table(one: World) -> None:
    columns = ", ".join(CurrentRow.__struct_fields__)
    one.admin.execute(
        f"insert into os_core.work_orders_current ({columns}) select {columns} from ("
        "select (jsonb_populate_record(row, jsonb_build_object("
        "'work_order_id', lpad(number::text, 5, '0'), 'correlation_id', number))).* "
        "from os_core.work_orders_current as row, generate_series(1, 4000) as number) as made".encode()
    )
    one.admin.execute("analyze os_core.work_orders_current")
    connection = wiring.operator(one.settings)
    chosen: list[Any] = []
    for _ in range(30):
        chosen += connection.execute(sql("sample_work_orders"), (15.0, 15.0, 20), binary=True).fetchall()
    connection.close()
    quarters = [sum(int(order) // 1001 == at for _, order in chosen if order.isdigit()) for at in range(4)]
    assert min(quarters) > 60, quarters


def test_a_missing_current_row_is_drift_and_counted_once_until_it_is_repaired(one: World) -> None:
    connection, drift = wiring.operator(one.settings), Drift()
    drift.round([connection], 10)
    assert (drift.compared, drift.drifting) == (1, set())
    one.admin.execute("delete from os_core.work_orders_current")
    for _ in range(2):
        drift.round([connection], 10)
        assert drift.drifting == {("acme", "order-1")}
    assert rebuild(one).repaired == 1
    drift.round([connection], 10)
    assert (drift.compared, drift.drifting) == (4, set())
    connection.close()


def test_the_drift_auditor_outlives_a_connection_that_is_lost(one: World) -> None:
    command = [sys.executable, "-m", "core_tables.cli.main", "verify", "--sample", "10", "--follow", "--every", "0.2"]
    auditor = subprocess.Popen(command, env=one.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert auditor.stdout is not None
    assert auditor.stderr is not None
    try:
        assert b"1 work orders compared" in auditor.stdout.readline()
        one.admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'core-tables operator' and datname = current_database()"
        )
        assert b"trying again in 1 s" in auditor.stderr.readline()
        compared = 0
        for _ in range(50):
            compared = int(auditor.stdout.readline().split()[0])
        assert compared > 40
    finally:
        auditor.kill()
        auditor.wait()


def test_a_chunk_that_fails_for_good_ends_the_rebuild(one: World) -> None:
    holder = psycopg.connect(one.settings.admin())
    holder.execute("select from os_core.lanes where lane = %s for update", (ACME,))
    with pytest.raises(UnavailableError):
        rebuild(one, lock_timeout_ms=100)
    holder.close()


def test_how_far_a_comparison_is_can_be_told_for_everything_a_tenant_and_a_work_order(fresh: World) -> None:
    with fresh.working():
        orders = [("acme", "o1"), ("acme", "o2"), ("globex", "o1")]
        for tenant, order in orders:
            assert fresh.outcome(make("WORK_ORDER_CREATED", tenant_id=tenant, work_order_id=order)) == Accepted()
    fresh.admin.execute("analyze os_core.work_orders_current")
    connection = wiring.operator(fresh.settings)
    scopes = (Scope(), Scope("acme"), Scope("acme", "o1"), Scope("nobody"))
    assert [estimate(connection, scope) for scope in scopes] == [3, 2, 1, 1]
    connection.close()


@pytest.mark.parametrize("fault", ["no server", "wrong password", "no scan"])
def test_what_could_not_be_compared_is_named_and_is_no_success(one: World, fault: str) -> None:
    """A cache that does not answer may hold anything: here, a list that is not true."""
    query = PendingQuery("acme", "ada", START)
    with one.working():
        wait_until(lambda: one.reads.pending(query).from_cache, "the cache to answer")
        cache = wiring.cache(one.settings, one.store().connection)
        assert cache is not None
        cache.fill(wait_until(lambda: cache.label(ACME), "the label"), ACME, ("acme", "ada"), [])
        url = cache_url(one, fault)
        for command in ("verify", "rebuild"):
            done = one.command(command, CORE_TABLES_REDIS_URL=url)
            assert done.returncode == output.EXIT_DIFFERENCES, done.stdout
            assert "the cache does not answer (" in done.stdout.decode()
            assert "next: check CORE_TABLES_REDIS_URL" in done.stdout.decode()
            report = json.loads(one.command(command, "--json", CORE_TABLES_REDIS_URL=url).stdout)
            assert len(report["incomplete"]) == 1


def cache_url(world: World, fault: str) -> str:
    """The address of a cache that does not answer."""
    if fault == "no server":
        return "redis://127.0.0.1:1/0"
    address, secret = urlsplit(world.settings.cache() or ""), "only-for-this-test"
    if fault == "wrong password":
        return f"redis://default:{secret}@{address.hostname}:{address.port}/0"
    user = f"{world.name}-no-scan"
    admin = redis.Redis.from_url(world.settings.cache() or "")
    admin.execute_command("ACL", "SETUSER", user, "on", f">{secret}", "~*", "+@all", "-scan", "-del")  # type: ignore[no-untyped-call]
    admin.close()
    return f"redis://{user}:{secret}@{address.hostname}:{address.port}/0"


@pytest.mark.parametrize("command", ["verify", "rebuild"])
@pytest.mark.parametrize("scope", [("--tenant", "typo"), ("--tenant", "acme", "--work-order", "typo")])
def test_a_tenant_or_a_work_order_that_does_not_exist_is_not_found(
    one: World, command: str, scope: tuple[str, ...]
) -> None:
    done = one.command(command, *scope)
    assert done.returncode == output.EXIT_NOT_FOUND
    assert b"nothing found: tenant " in done.stderr
    assert b"0 work orders compared, 0 equal" in done.stdout
    assert one.command(command, "--tenant", "acme", "--work-order", "order-1").returncode == output.EXIT_OK


def test_a_row_that_no_event_explains_is_found_by_the_name_of_its_work_order(one: World) -> None:
    one.admin.execute("alter table os_core.work_order_ledger disable trigger append_only")
    one.admin.execute("delete from os_core.work_order_ledger")
    done = one.command("verify", "--tenant", "acme", "--work-order", "order-1")
    assert (done.returncode, b"row that no event explains" in done.stdout) == (output.EXIT_DIFFERENCES, True)


def test_the_topic_is_not_compared_for_one_tenant(one: World) -> None:
    done = one.command("verify", "--topic", "--tenant", "acme")
    assert (done.returncode, b"leave out --tenant" in done.stderr) == (output.EXIT_USAGE, True)
