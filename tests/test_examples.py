"""The examples run, and print what they promise."""

import re
import runpy
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


def begin(world: World, name: str, *arguments: str) -> "subprocess.Popen[str]":
    """An example that runs alongside the test."""
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env=world.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_to(process: "subprocess.Popen[str]", end: str) -> str:
    """What a program prints, up to something that it is expected to print; it may be no whole line."""
    seen = ""
    assert process.stdout is not None
    while not seen.endswith(end):
        letter = process.stdout.read(1)
        assert letter, (seen, process.stderr and process.stderr.read())
        seen += letter
    return seen


def test_every_example_is_in_the_list_and_has_its_test() -> None:
    listed = (EXAMPLES / "README.md").read_text("utf-8")
    tested = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    for path in EXAMPLES.glob("*.py"):
        assert f"({path.name})" in listed
        assert f'"{path.name}"' in tested or f'"{path.stem}:app"' in tested


@pytest.mark.parametrize("wrong", [[], ["--help"], ["a", "b", "c", "d"]], ids=("nothing", "help", "too much"))
def test_an_example_that_takes_arguments_says_which(
    wrong: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taking = [path for path in EXAMPLES.glob("*.py") if "add_argument" in path.read_text("utf-8")]
    assert len(taking) == len(list(EXAMPLES.glob("*.py"))) - 2, "all but the service and the worker"
    for path in taking:
        if path.name == "scheduler.py" and not wrong:
            continue  # which needs none
        monkeypatch.setattr(sys, "argv", [path.name, *wrong])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(path), run_name="__main__")
        shown = capsys.readouterr()
        assert ended.value.code == (0 if wrong == ["--help"] else 2)
        assert f"usage: {path.name}" in shown.out + shown.err


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


def test_of_two_who_ask_at_once_one_shows_the_question(world: World) -> None:
    with world.working():
        both = [begin(world, "never_ask_twice.py", "examples", "order-5") for _ in range(2)]
        shown = [process.communicate(timeout=60) for process in both]
    assert sorted(shown) == [("Which city?\n", ""), ("somebody has asked already\n", "")]


def test_who_waits_for_an_approval_learns_the_answer_and_whoever_runs_again_too(world: World) -> None:
    arguments = ("approval_wait.py", "examples", "order-6", "boss")
    with world.working(), begin(world, *arguments) as waiting:
        try:
            read_to(waiting, "waiting for boss\n")
            assert run(world, *arguments, "--answer", "APPROVED") == "order-6: APPROVED: Accepted()\n"
            assert waiting.communicate(timeout=60) == ("decision: APPROVED\n", "")
            assert run(world, *arguments) == "waiting for boss\ndecision: APPROVED\n"
        finally:
            waiting.kill()


def test_a_step_is_taken_over_from_a_program_that_is_suspended_and_its_report_is_refused(world: World) -> None:
    arguments = ("step_with_retries.py", "examples", "order-7")
    with world.working(), begin(world, *arguments, "one") as one, begin(world, *arguments, "two") as two:
        try:
            first, second = sorted((one, two), key=lambda process: "waits" in read_to(process, "\n"))
            read_to(first, "attempt 0: book? ")
            answer(first, "no")
            read_to(first, "attempt 1: book? ")
            first.send_signal(signal.SIGSTOP)
            read_to(second, "has the lease\nattempt 2: book? ")
            answer(second, "yes")
            out, error = second.communicate(timeout=60)
            assert (out, error, second.returncode) == ("booked: BA-17\n", "", 0)
            first.send_signal(signal.SIGCONT)
            answer(first, "yes")
            out, error = first.communicate(timeout=60)
        finally:
            for process in (one, two):
                process.kill()
    assert (out, first.returncode) == ("", 1)
    assert "step book is done, but not recorded" in error
    statuses = [attempt.status for attempt in world.reads.attempts("examples", "order-7")]
    assert statuses == ["FAILED", "FAILED", "SUCCEEDED"]


def answer(process: "subprocess.Popen[str]", text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()


def test_a_scheduler_acts_once_on_what_is_due_over_all_tenants(world: World) -> None:
    with world.working():
        for tenant in ("plan-1", "plan-2"):
            of = {"tenant_id": tenant}
            for event in (
                make("STEP_STARTED", **of, step_id="slow"),
                make("STEP_RETRY_SCHEDULED", **of, step_id="again"),
                make("LEASE_ACQUIRED", **of),
                make("EXTERNAL_APPROVAL_REQUESTED", **of),
            ):
                assert world.outcome(event) == Accepted()
        shown = [run(world, "scheduler.py", "--once").splitlines() for _ in range(2)]
    first, second = ([line for line in lines if line.startswith("plan-2 ")] for lines in shown)
    assert first == [
        "plan-2 order-1: retry of again, attempt 1",
        "plan-2 order-1: timeout of slow, attempt 0: done",
        "plan-2 order-1: lease of owner-1",
        "plan-2 order-1: approval by boss: done",
    ]
    assert second == [first[0], first[2]]


def test_the_audit_consumer_shows_each_outcome_once_and_continues_where_it_ended(fresh: World) -> None:
    events = [make("WORK_ORDER_CREATED", work_order_id=f"order-{number}") for number in range(3)]
    with fresh.working():
        for event in (*events, make("FIELD_SET", work_order_id="order-1", expected_last_event_id=1)):
            fresh.outcome(event)
        fresh.drain()
    first = run(fresh, "audit_consumer.py", f"{fresh.name}-watch", "2").splitlines()
    second = run(fresh, "audit_consumer.py", f"{fresh.name}-watch", "2").splitlines()
    shown = [line.split(" ", 2)[2] for line in (*first, *second)]
    assert shown == [
        *(f"order-{number} WORK_ORDER_CREATED ACCEPTED" for number in range(3)),
        "order-1 FIELD_SET REFUSED (OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED)",
    ]


def test_the_tutorial_prints_what_it_says(world: World) -> None:
    """Its parts are typed one after the other into one interpreter, which shows the value of each expression, too."""
    page = (EXAMPLES.parent / "docs" / "TUTORIAL.md").read_text("utf-8")
    parts = re.findall(r"^```python\n(.*?)^```\n\n^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(parts) == page.count("```python") == page.count("```text") == 5
    typed = "\n".join(code for code, _ in parts)
    with world.working():
        done = subprocess.run(
            [sys.executable, "-q", "-i"],
            input=typed,
            env=world.environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert "Error" not in done.stderr
    assert done.stdout == "".join(printed for _, printed in parts)
