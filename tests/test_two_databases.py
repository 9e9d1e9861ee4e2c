"""A ledger whose lanes lie in two databases, each on a server of its own: all that holds of one holds of both."""

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from core_tables.cli import doctor, output, wiring, worker_wiring
from core_tables.cli.init import initialize
from core_tables.cli.monitor import Monitor
from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.deploy import stack as local_stack
from core_tables.deploy.stack import StackAddresses
from core_tables.kafka.clients import admin_client
from core_tables.producer.connected_reads import connect_reads
from core_tables.projection.postgres.operator_reads import refusal_counts, refused_of_tenant, tenants
from core_tables.schemas.identity import lane_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import SetupError, UnavailableError
from core_tables.settings.environment import Settings

from .builders import START, day, make, tenant_of_lane
from .leftovers import note
from .oracle import check_everything
from .test_isolation import READS, append_two_tenants
from .world import World, new_world, other_settings, wait_until

pytestmark = pytest.mark.stack

# The tenant that most tests act for, acme, is in lane 0: in the second database, whose server is killed here.
FIRST, SECOND = range(6, 12), range(6)
HOUR = 3_600_000_000_000


class Second:
    """The server of the second database. It may be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start()
        (part,) = (part for part in local_stack.status(folder) if part.name == "postgres")
        _, _, self.port = (part.address or "").rpartition(":")

    def start(self) -> None:
        """Start it, unless it runs."""
        local_stack.start_part(self.folder, "postgres")

    def kill(self) -> None:
        """End it as a crash does: Postgres' immediate shutdown."""
        local_stack.stop_part(self.folder, "postgres", with_signal=signal.SIGQUIT)


@pytest.fixture(scope="module")
def second(stack: StackAddresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Second]:
    """A server next to that of the stack. Its password is the same, or in a passfile."""
    folder = note(tmp_path_factory.mktemp("second"))
    secret = conninfo_to_dict(stack.postgres_dsn).get("password") or "second"
    (folder / "password").write_text(str(secret), "ascii")
    passfile = folder / "passfile"
    passfile.touch(0o600)
    passfile.write_text(f"*:*:*:*:{secret}\n", "ascii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSFILE", str(passfile))
        try:
            yield Second(folder)
        finally:
            local_stack.down(folder, print, wipe=True)


def map_of(stack: StackAddresses, second: Second, dbname: str | None = None) -> str:
    """Lanes 6 to 11 in the stack's server, the others in the second."""
    first = conninfo_to_dict(stack.postgres_dsn)
    named = "" if dbname is None else f" dbname={dbname}"
    return f"6-11=host={first['host']} port={first['port']};0-5=host=127.0.0.1 port={second.port}{named}"


@pytest.fixture(scope="module")
def world(stack: StackAddresses, second: Second) -> Iterator[World]:
    """Two databases, and what happened to two tenants and thirty others."""
    made = new_world(stack, lanes=map_of(stack, second))
    with made.working():
        append_two_tenants(made)
        made.append(*day(1200))
        for lane in (1, 7):  # a record in the wrong partition belongs to no tenant
            made.produce(tenant_of_lane(lane + 1).encode(), b"\0", lane)
        made.drain()
    yield made
    made.close()


def test_the_rows_of_a_lane_are_in_its_database_and_nowhere_else(world: World) -> None:
    for admin, lanes in zip(world.admins, (FIRST, SECOND), strict=True):
        statement = "select work_order_event_id >> 42 from os_core.work_order_ledger group by 1 order by 1"
        used = {lane_of(event_id) for event_id in world.acknowledged}
        assert [lane for (lane,) in admin.execute(statement)] == sorted(used.intersection(lanes))
        assert [lane for (lane,) in admin.execute("select lane from os_core.lanes order by 1")] == list(lanes)
        assert len(admin.execute("select topic from os_core.work_order_topics").fetchall()) == 1


def test_every_read_is_answered_by_the_database_of_its_tenant(world: World) -> None:
    readers = [database.reader for database in world.settings.databases()]
    elsewhere, alone = (connect_reads([(None, reader)], "test reads of one database") for reader in readers)
    with closing(elsewhere), closing(alone):
        for name, read in READS.items():
            found = read(world.reads)
            assert found, f"{name}: the tenant has something to read"
            assert "globex" not in repr(found), name
            if not name.startswith("pending"):
                assert repr(found) == repr(read(alone)), name
                assert not read(elsewhere), name


def test_what_is_of_no_tenant_is_put_together_in_order(world: World) -> None:
    events = sorted(world.acknowledged)
    with closing(wiring.scheduler_reads(world.settings)) as reads:
        due = [tenant.tenant_id for tenant in reads.due_tenants(START + 2 * HOUR).all()]
        paged = [tenant.tenant_id for tenant in reads.due_tenants(START + 2 * HOUR, page_size=1).all()]
    assert due == paged == sorted(due)
    assert {"acme", "globex"} <= set(due)
    assert {world.reads.lane_of_tenant(tenant) in FIRST for tenant in due} == {True, False}
    connections = wiring.operators(world.settings)
    everyone = [counts.tenant_id for counts in tenants(connections)]
    assert everyone == sorted({event.tenant_id for event in world.acknowledged.values()})
    assert [counts.tenant_id for counts in tenants(connections, after=everyone[2], page_size=5)] == everyone[3:8]
    misrouted = refused_of_tenant(connections, "_unattributed")
    assert [lane_of(record.event_id) for record in misrouted] == [7, 1], "the newest first"
    assert [record.event_id for record in refused_of_tenant(connections, "_unattributed", page_size=1)] == [
        misrouted[0].event_id
    ]
    assert [count.refused for count in refusal_counts(connections) if count.tenant_id == "_unattributed"] == [2]
    pages = world.reads.refused("_unattributed", page_size=1)
    assert [record.event_id for record in pages.all()] == [record.event_id for record in misrouted]
    assert world.reads.applied_of([0, 11]).keys() == {0, 11}
    assert len(world.ledger.outcome_waiter().wait({"acme": events[:1]}, 0.0)) in (0, 1)
    for connection in connections:
        connection.close()


def test_a_difference_in_either_database_is_found_and_repaired(world: World) -> None:
    assert world.command("verify").returncode == output.EXIT_OK
    for admin in world.admins:
        admin.execute(
            "update os_core.work_orders_current set last_reason_code = last_reason_code + 1 where (tenant_id, work_order_id) in "
            "(select tenant_id, work_order_id from os_core.work_orders_current where work_order_status = 'DRAFT' limit 1)"
        )
    drifted = world.verify()
    assert len(drifted.differences) == 2
    orders = world.asked("select distinct tenant_id, work_order_id from os_core.work_order_ledger")
    assert drifted.compared == len(orders)
    assert world.command("verify").returncode == output.EXIT_DIFFERENCES
    repaired = world.command("rebuild")
    assert b"2 repaired" in repaired.stdout, repaired
    assert world.verify().differences == []
    assert world.command("verify", "--topic").returncode == output.EXIT_OK


def test_operators_see_all_lanes(world: World) -> None:
    admin = admin_client(world.settings.kafka_settings())
    status = wiring.status_now(world.settings, admin)
    assert sorted(lane.lane for lane in status.lanes) == list(range(12))
    assert not status.unanswered
    with closing(Monitor(world.settings, structlog_of_nothing())) as monitor:
        monitor.round()
        assert sorted(monitor.view().positions or ()) == list(range(12))
        assert monitor.view().failed == {}
    found = {finding.check: finding.state for finding, _ in doctor.findings(world.settings)}
    for name in ("tables, lanes 6-11", "tables, lanes 0-5", "Postgres, reader, lanes 0-5", "topics"):
        assert found[name] is doctor.State.OK, found


def structlog_of_nothing() -> object:
    """A log that keeps nothing."""
    import structlog

    return structlog.wrap_logger(structlog.ReturnLogger())


def test_everything_holds_while_one_server_is_killed_and_the_other_goes_on(
    stack: StackAddresses, second: Second
) -> None:
    world = new_world(stack, lanes=map_of(stack, second))
    ours, theirs = tenant_of_lane(6), tenant_of_lane(0)
    world.append(*day(2000))
    with world.working(batch_size=100) as running:
        wait_until(lambda: running.worker.folded_records > 300, "the load to be under way")
        second.kill()
        try:
            for number in range(5):
                assert world.outcome(make("FIELD_SET", tenant_id=ours, idempotency_key=f"k{number}")) == Accepted()
            (receipt,) = world.append(make("FIELD_SET", tenant_id=theirs))
            with pytest.raises(UnavailableError):
                receipt.outcome(1.0)
            ends = world.log_ends()
            there = f"select lane, applied, audited from os_core.lanes where lane >= {min(FIRST)}"
            wait_until(
                lambda: set(world.admin.execute(there.encode())) == {(lane, ends[lane], ends[lane]) for lane in FIRST},
                "the lanes of the first database to be folded and audited",
            )
            assert world.reads.current(ours, "order-1") is not None
            with pytest.raises(UnavailableError):
                world.reads.until(0.0).current(theirs, "order-1")
            assert {lane.lane for lane in running.worker.lanes.values() if lane.opened} == set(FIRST)
            _check_newcomers(world, ours)
        finally:
            second.start()
        world.close()
        world.reconnect()
        world.drain()
    assert running.errors == []
    check_everything(world, 2007)
    world.close()


def _check_newcomers(world: World, ours: str) -> None:
    """Who starts while a server is down works with the others."""
    status = wiring.status_now(world.settings, admin_client(world.settings.kafka_settings()))
    assert sorted(lane.lane for lane in status.lanes) == list(FIRST)
    (why,) = status.unanswered
    assert why.endswith("lanes 0-5")
    with closing(wiring.ledger(world.settings)) as ledger:
        event = make("FIELD_SET", tenant_id=ours, idempotency_key="k0")
        receipt = ledger.append(event)
        assert receipt.outcome(20.0) is not None
        world.acknowledged[receipt.event_id()] = event
    other = world.settings.model_copy(update={"group_id": f"{world.name}-other"})
    worker, audit = worker_wiring.worker(other, WorkerSettings(), audit=False, log=structlog_of_nothing())
    assert audit is None
    worker.close()


def test_a_map_that_does_not_fit_the_databases_is_refused_by_everyone(
    world: World, stack: StackAddresses, second: Second
) -> None:
    """Nothing is folded again from the beginning, and no tenant is looked for where it is not."""
    first = conninfo_to_dict(stack.postgres_dsn)
    swapped = f"0-5=host={first['host']} port={first['port']};6-11=host=127.0.0.1 port={second.port}"
    _check_refused(world.settings.model_copy(update={"postgres_lanes": swapped}), "has the lanes")
    moved = map_of(stack, second).replace("6-11", "5-11").replace("0-5", "0-4")
    _check_refused(world.settings.model_copy(update={"postgres_lanes": moved}), "has the lanes")
    dsn = world.settings.databases()[0].admin()
    alone = world.settings.model_copy(update={"postgres_lanes": None, "postgres_dsn": dsn})
    with pytest.raises(SetupError, match="lane 0 is not known"):
        wiring.ledger(alone)


def _check_refused(settings: Settings, why: str) -> None:
    with pytest.raises(SetupError, match=why):
        initialize(settings)
    with pytest.raises(SetupError, match=why):
        worker_wiring.worker(settings, WorkerSettings(), audit=False, log=structlog_of_nothing())
    with pytest.raises(SetupError, match=why), closing(wiring.reads(settings)) as reads:
        reads.current("acme", "order-1")
    with pytest.raises(SetupError, match=why):
        wiring.status_now(settings, admin_client(settings.kafka_settings()))


def test_an_empty_database_in_the_place_of_another_is_filled_only_if_that_was_lost(
    stack: StackAddresses, second: Second
) -> None:
    world = new_world(stack, lanes=map_of(stack, second))
    with world.working():
        world.append(*day(400))
        world.drain()
    empty = f"{world.name}empty"
    world.admins[1].execute(f'create database "{empty}"'.encode())
    wrong = other_settings(world, postgres_lanes=map_of(stack, second, empty))
    with pytest.raises(SetupError, match=r"does not know the topic|knows no ledger topic|is not as it should be"):
        worker_wiring.worker(wrong.settings, WorkerSettings(), audit=False, log=structlog_of_nothing())
    with pytest.raises(SetupError, match=r"the database, lanes 0-5 is empty.*init --lost"):
        initialize(wrong.settings)
    initialize(wrong.settings, lost=True)
    with wrong.working():
        wrong.drain()
    check_everything(wrong, 400)
    wrong.close()
    world.close()
