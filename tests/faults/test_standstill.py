"""A server that is suspended: every wait ends by its deadline, and says what was waited for."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core_tables.cli import output
from core_tables.deploy import stack as local_stack
from core_tables.deploy.parts import PartName
from core_tables.kafka.topics import describe_topics
from core_tables.producer import Ledger, LedgerSettings
from core_tables.projection.fold.pending import PendingQuery
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import CoreTablesError, FatalClientError, UnavailableError
from tests.builders import START, make
from tests.leftovers import note
from tests.prometheus import watched
from tests.world import World, new_world, wait_until

from . import watched_faults as faults
from .standstill import standing_still

pytestmark = pytest.mark.stack

# Far below the time that a wait without a deadline would take: the servers stay suspended until the call has returned.
RETURNS_S = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A local stack of this module's own, whose parts may be stopped."""
    path = note(tmp_path_factory.mktemp("standing"))
    try:
        local_stack.up(path, print)
        yield path
    finally:
        local_stack.down(path, print, wipe=True)


@pytest.fixture(scope="module")
def world(folder: Path) -> Iterator[World]:
    made = new_world(local_stack.up(folder, print))
    with made.working():
        assert made.outcome(make("WORK_ORDER_CREATED")) == Accepted()
    yield made
    made.close()


def returned(call: Callable[[], object]) -> object:
    """What a call returns or raises, in a thread: one that never returns fails the test and does not hang it."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(RETURNS_S)
    assert results, f"the call still waits after {RETURNS_S} s"
    return results[0]


def controller_answers(world: World) -> bool:
    """Whether the broker answers what a worker asks at its start; for a moment after a stop it waits for its controller."""
    admin = world.kafka_admin()
    try:
        return bool(describe_topics(admin, [world.settings.topic]).topics)
    except CoreTablesError:
        return False


def ledger_of(world: World) -> Ledger:
    return Ledger.connect(LedgerSettings(world.settings.kafka_servers(), world.settings.reader(), world.settings.topic))


CALLS: dict[str, Callable[[Ledger], object]] = {
    "read": lambda ledger: ledger.reads().until(time.monotonic() + 1).current("acme", "order-1"),
    "pending": lambda ledger: ledger.reads().until(time.monotonic() + 1).pending(PendingQuery("acme", "ada", START)),
    "read with the default limit": lambda ledger: ledger.reads().current("acme", "order-1"),
    "cancel": lambda ledger: ledger.cancel("acme", "order-1", 9, "key", timeout=1),
    "outcome": lambda ledger: ledger.append(make("FIELD_SET")).outcome(1),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("opened", [True, False], ids=["over an open connection", "over a connection to be opened"])
def test_while_postgres_stands_still_a_call_ends_by_its_timeout(
    folder: Path, world: World, call: str, opened: bool
) -> None:
    ledger = ledger_of(world)
    assert ledger.reads().current("acme", "order-1") is not None
    if not opened:
        world.admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'core-tables %'"
        )
    with standing_still(folder, "postgres"):
        assert isinstance(returned(lambda: CALLS[call](ledger)), UnavailableError)
    assert ledger.reads().current("acme", "order-1") is not None
    ledger.close()


def test_while_kafka_stands_still_an_append_is_unknown_and_a_cancel_ends_by_its_timeout(
    folder: Path, world: World
) -> None:
    ledger = ledger_of(world)
    assert ledger.append(make("FIELD_SET", tenant_id="still")).event_id() > 0
    with standing_still(folder, "kafka"):
        receipt = ledger.append(make("FIELD_SET", tenant_id="still"))
        for call in (
            lambda: receipt.event_id(timeout=1),
            lambda: receipt.outcome(timeout=1),
            lambda: ledger.cancel("still", "no-such-order", 9, "key", timeout=1),
        ):
            assert isinstance(returned(call), UnavailableError)
    assert receipt.event_id() > 0
    ledger.close()


def test_a_worker_that_postgres_leaves_waiting_folds_on_afterwards(folder: Path, world: World) -> None:
    with world.working(waits_after_s=1.0) as running:
        assert world.outcome(make("FIELD_SET")) == Accepted()
        wait_until(lambda: running.probes.ready().ok, "the worker to be ready")
        with standing_still(folder, "postgres"):
            receipt = world.ledger.append(make("FIELD_SET"))
            receipt.place()
            wait_until(lambda: running.log_lines("lane_reopens"), "the worker to say that it waits for Postgres", 60)
            wait_until(lambda: not running.probes.ready().ok, "the worker to be not ready")
            assert running.probes.alive().ok
            assert {problem["state"] for problem in running.probes.ready().body["problems"]} <= {
                "waiting",
                "audit_waiting",
            }
        assert receipt.outcome(60) == Accepted()
        wait_until(lambda: running.probes.ready().ok, "the worker to be ready again")
    assert running.errors == []


def test_questions_about_a_group_that_a_suspended_kafka_leaves_open_do_not_end_the_process(
    folder: Path, world: World, tmp_path: Path
) -> None:
    """Whether a suspended broker meets the fault of the client is chance; tests/test_lost_clients.py meets it each time."""
    written = tmp_path / "answers"
    with written.open("wb") as answers:
        asker = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.group_asker", world.settings.kafka_servers(), world.settings.group_id],
            stdin=subprocess.PIPE,
            stdout=answers,
        )

    def count(what: str) -> int:
        return written.read_text("utf-8").splitlines().count(what)

    try:
        wait_until(lambda: count("answered") > 0, "a first answer", 60)
        with standing_still(folder, "kafka"):
            wait_until(lambda: count("not answered") >= 4, "several questions to be open", 60)
        before = count("answered")
        wait_until(lambda: count("answered") > before or asker.poll() is not None, "another answer", 180)
        asker.communicate(timeout=30)
        assert asker.returncode == 0
    finally:
        asker.kill()
        asker.wait()


# Alone, since a broker that was suspended needs its processor to find its controller again.
@pytest.mark.alone
def test_a_worker_that_kafka_leaves_waiting_is_alive_and_is_ready_again_or_ends_to_be_started_again(
    folder: Path, world: World
) -> None:
    with world.working(waits_after_s=1.0) as running:
        assert world.outcome(make("FIELD_SET")) == Accepted()
        wait_until(lambda: running.probes.ready().ok, "the worker to be ready")
        with standing_still(folder, "kafka"):
            wait_until(lambda: not running.probes.ready().ok, "the worker to be not ready", 60)
            assert running.probes.alive().ok
        # While the broker says that no broker is up, a client may forget where the brokers are.
        wait_until(lambda: running.probes.ready().ok or running.errors, "the worker to be ready again, or to end", 180)
    if running.errors:
        (error,) = running.errors
        assert isinstance(error, FatalClientError), error
    with world.working() as running:
        assert world.outcome(make("FIELD_SET")) == Accepted()
    assert running.errors == []


@pytest.mark.alone
@pytest.mark.parametrize("part", ["postgres", "kafka"])
def test_a_worker_ends_when_it_is_asked_to_though_a_server_answers_nothing(
    folder: Path, world: World, part: PartName, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as lines:
        process = world.worker_process(log=lines)
        try:
            wait_until(lambda: "lane_opened" in log.read_text("utf-8"), "a lane to be opened")
            with standing_still(folder, part):
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) in (output.EXIT_OK, output.EXIT_FORCED), log.read_text("utf-8")
        finally:
            process.kill()
            process.wait()
    wait_until(lambda: controller_answers(world), "the broker to have found its controller again", 180)
    with world.working():
        assert world.outcome(make("FIELD_SET")) == Accepted()


@pytest.mark.skipif("FAULT_ROUNDS" not in os.environ, reason="it takes more than three minutes: `make faults`")
# A fault of Kafka comes last: what follows would have to wait until the broker has found its controller again.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_each_fault_of_a_real_worker_raises_its_alert_and_no_other_in_a_real_prometheus(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = new_world(local_stack.up(folder, print))
    with watched(ours, tmp_path) as seen:
        with seen.working(waits_after_s=1.0) as running:
            assert ours.outcome(make("WORK_ORDER_CREATED")) == Accepted()
            seen.quiet()
            faults.differing_rows(seen)
            faults.open_transaction(seen)
            faults.no_cache(seen, folder, running)
            faults.no_database(seen, folder, running)
            faults.stopped_lane(seen, running)
        seen.raises("NoWorker")
        ours.admin.execute("update os_core.lanes set applied = 0, audited = 0 where lane = %s", (faults.FREE,))
        with seen.working(waits_after_s=1.0, audit_queue_size=10, audit_patience_s=0.1) as running:
            faults.full_audit_queue(seen, running, monkeypatch)
            faults.dead_audit(seen, running, monkeypatch)
        with seen.working(waits_after_s=1.0) as running:
            faults.no_broker(seen, folder, running)
    ours.close()
