"""The examples run, and print what they promise."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core_tables.schemas.outcomes import Accepted

from .builders import make
from .world import World, wait_until

pytestmark = pytest.mark.stack

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(world: World, name: str, *arguments: str) -> str:
    """What an example prints; it must end by itself, and well."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, env=world.environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_example_is_in_the_list_and_has_its_test() -> None:
    listed, tested = (EXAMPLES / "README.md").read_text("utf-8"), Path(__file__).read_text("utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f"({path.name})" in listed
        assert f'"{path.name}"' in tested


def test_append_and_await_shows_each_outcome(world: World) -> None:
    with world.working():
        first = run(world, "append_and_await.py", "examples", "order-1").splitlines()
        second = run(world, "append_and_await.py", "examples", "order-1").splitlines()
    event_id = first[0].rpartition(" ")[2]
    assert first[1] == "create: accepted"
    assert first[2].startswith(f"again: replayed: event {event_id} was the first")
    assert first[3] == "cancel: accepted"
    assert first[4].startswith("not sent: OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED tenant_id ")
    assert [line.split(":")[1] for line in second[1:4]] == [" replayed"] * 3


def test_read_shows_what_was_appended(world: World) -> None:
    order = {"tenant_id": "reads", "work_order_id": "order-2"}
    with world.working():
        for event in (make("WORK_ORDER_CREATED", **order), make("FIELD_SET", **order)):
            assert world.outcome(event) == Accepted()
    shown = run(world, "read.py", "reads", "order-2").splitlines()
    assert shown[0].startswith("now: ")
    assert "city" in shown[0]
    assert [line.split()[2] for line in shown if line.startswith("event ")] == ["WORK_ORDER_CREATED", "FIELD_SET"]
    assert shown[3].startswith("at first: ")
    assert shown[4].startswith("pending: ")
    assert run(world, "read.py", "reads", "order-3") == "reads has no work order order-3\n"


def test_an_embedded_worker_folds_until_it_is_asked_to_stop(fresh: World) -> None:
    command = [sys.executable, str(EXAMPLES / "embed_worker.py")]
    with subprocess.Popen(
        command, env=fresh.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert fresh.outcome(make("WORK_ORDER_CREATED")) == Accepted()
            wait_until(fresh.drained, "the outcome to be audited")
            process.send_signal(signal.SIGTERM)
            shown, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, shown.decode()) == (0, "folded 1 records\n")


def test_a_work_order_goes_from_its_creation_to_its_end_and_again_as_replays(world: World) -> None:
    with world.working():
        first = run(world, "work_order.py", "examples", "order-4").splitlines()
        second = run(world, "work_order.py", "examples", "order-4").splitlines()
    assert "Which city?" in first
    acts = [line for line in first if line != "Which city?"]
    assert {line.partition(": ")[2] for line in acts} == {"accepted"}
    assert [line.partition(": ")[0] for line in second] == [line.partition(": ")[0] for line in acts]
    assert {line.partition(": ")[2] for line in second} == {"replayed"}
    record = world.reads.current("examples", "order-4")
    assert record is not None
    assert record.work_order_status == "DONE"
    assert len(world.reads.attempts("examples", "order-4")) == 2


def test_many_work_orders_are_created_at_once_and_again_as_replays(world: World) -> None:
    with world.working():
        first = run(world, "many_at_once.py", "many", "50")
        second = run(world, "many_at_once.py", "many", "50")
    assert first == "outcomes: {'Accepted': 50}\nstatuses: {'DRAFT': 50}\n"
    assert second == "outcomes: {'Replayed': 50}\nstatuses: {'DRAFT': 50}\n"
