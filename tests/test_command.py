"""The command as a person uses it: what it prints, what it refuses, and with which exit code it ends."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core_tables.cli import output
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.json_form import event_to_json
from core_tables.schemas.outcomes import Accepted

from .builders import HOUR, START, make
from .world import World, new_world

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module", autouse=True)
def _worker(world: World) -> Iterator[None]:
    with world.working():
        assert world.outcome(make("WORK_ORDER_CREATED", idempotency_key="first")) == Accepted()
        assert world.outcome(make("STEP_RETRY_SCHEDULED")) == Accepted()
        assert world.outcome(make("LEASE_ACQUIRED")) == Accepted()
        yield


def line(event: LedgerEvent, **changes: Any) -> bytes:
    """A line of a file, with changes to its JSON."""
    return json.dumps({**event_to_json(event), **changes}).encode() + b"\n"


def json_lines(text: bytes) -> list[dict[str, Any]]:
    return [json.loads(found) for found in text.splitlines()]


def test_append_reads_standard_input_and_reports_bad_lines_while_the_others_go_on(world: World) -> None:
    good = make("WORK_ORDER_CREATED", tenant_id="cli", idempotency_key="a")
    lines = b"".join(
        (
            line(good),
            b"[1, 2]\n",
            b"{not json\n",
            b'{"tenant_id": "caf\xe9"}\n',
            b"\n",
            line(good, turn_id=0),
            line(good, work_order_status="SLEEPING"),
            line(good, colour="red"),
            line(good, payload={"requester_user_id": "\ud800"}),
            line(good),
        )
    )
    done = world.command("append", "-", "--wait", stdin=lines)
    errors = done.stderr.decode()
    assert done.returncode == output.EXIT_REFUSED, errors
    for number, words in (
        (2, "a JSON object was expected, not an array"),
        (3, "not valid JSON"),
        (4, "not valid UTF-8"),
        (6, "(turn_id): turn_id is 0"),
        (7, "(work_order_status): work_order_status must be one of DRAFT"),
        (8, "(colour): the contract has no field of this name"),
        (9, "(requester_user_id): requester_user_id holds a lone surrogate"),
    ):
        (found,) = [text for text in errors.splitlines() if text.startswith(f"line {number}: ")]
        assert found.startswith(f"line {number}: OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED")
        assert words in found
    text = done.stdout.decode()
    assert "appended 2 events" in text
    assert "7 bad lines" in text
    assert "1 accepted, 1 replayed, 0 refused" in text


def test_append_reads_gzip_and_answers_in_json(world: World, tmp_path: Path) -> None:
    file = tmp_path / "events.gz"
    created = make("WORK_ORDER_CREATED", tenant_id="zip", idempotency_key="a")
    file.write_bytes(gzip.compress(line(created) + line(make("FIELD_SET", tenant_id="zip", expected_last_event_id=1))))
    done = world.command("append", str(file), "--wait", "--json")
    assert done.returncode == output.EXIT_REFUSED
    assert json.loads(done.stdout) == {
        "appended": 2,
        "unknown": 0,
        "bad_lines": 0,
        "accepted": 1,
        "replayed": 0,
        "refused": 1,
        "pending": 0,
        "bad_lines_by_reason": {},
        "refused_by_reason": {"OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED (expected_last_event_id)": 1},
    }


def test_append_of_an_empty_file_says_so(world: World) -> None:
    done = world.command("append", "-")
    assert done.returncode == output.EXIT_OK
    assert b"the file holds no events" in done.stdout


@pytest.mark.parametrize("damage", ["torn", "corrupt"])
def test_append_of_a_damaged_gzip_file_follows_what_could_be_read(world: World, tmp_path: Path, damage: str) -> None:
    lines = b"".join(line(make("FIELD_SET", tenant_id=damage, turn_id=turn + 1)) for turn in range(20_000))
    packed = bytearray(gzip.compress(lines, 1))
    if damage == "torn":
        del packed[-20:]
    else:
        packed[len(packed) // 2 : len(packed) // 2 + 8] = b"\xff" * 8
    file = tmp_path / "events.gz"
    file.write_bytes(packed)
    done = world.command("append", str(file), "--wait", "--json")
    errors = done.stderr.decode()
    assert done.returncode == output.EXIT_REFUSED, errors
    (sentence,) = [text for text in errors.splitlines() if "no whole gzip file" in text]
    assert "Traceback" not in errors
    summary = json.loads(done.stdout)
    assert summary["appended"] > 2000
    assert summary["appended"] == summary["accepted"] + summary["refused"], "all that was sent is followed"
    assert f"its first {summary['appended'] + summary['bad_lines']} lines could be read" in sentence


def test_append_reports_every_bad_line_and_counts_them_by_reason(world: World) -> None:
    good = make("FIELD_SET", tenant_id="bad-lines")
    lines = line(good, turn_id=0) * 30 + line(good, colour="[/red]") + b"{\n"
    expected = {
        "OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED (turn_id)": 30,
        "OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED (colour)": 1,
        "OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED": 1,
    }
    done = world.command("append", "-", "--json", stdin=lines)
    assert done.returncode == output.EXIT_REFUSED
    assert [text.split(":")[0] for text in done.stderr.decode().splitlines()] == [f"line {n}" for n in range(1, 33)]
    summary = json.loads(done.stdout)
    assert (summary["bad_lines"], summary["bad_lines_by_reason"]) == (32, expected)
    shown = world.command("append", "-", stdin=lines).stdout.decode()
    assert all(reason in shown for reason in expected)


def test_append_reads_a_correlation_id_that_is_a_number_exactly(world: World) -> None:
    event = make("FIELD_SET", tenant_id="numbers", correlation_id=2**128 - 1)
    raw = line(event).replace(b'"' + str(2**128 - 1).encode() + b'"', str(2**128 - 1).encode())
    assert world.command("append", "-", "--wait", stdin=raw).returncode == output.EXIT_OK
    assert world.reads.current_by_correlation("numbers", 2**128 - 1) is not None


def test_get_prints_the_current_record_and_the_record_as_it_was(world: World) -> None:
    done = world.command("get", "--tenant", "acme", "order-1", "--json")
    assert done.returncode == output.EXIT_OK
    record = json.loads(done.stdout)
    assert (record["tenant_id"], record["fields_json"]) == ("acme", {"city": "Paris"})
    assert record["correlation_id"] == str(make("FIELD_SET").correlation_id)
    first = json_lines(world.command("ledger", "--tenant", "acme", "--json").stdout)[0]["work_order_event_id"]
    then = json.loads(world.command("get", "--tenant", "acme", "order-1", "--at", str(first), "--json").stdout)
    assert then["last_event_id"] == first
    assert b"order-1" in world.command("get", "--tenant", "acme", "order-1").stdout


def test_nothing_found_has_an_exit_code_of_its_own(world: World) -> None:
    for arguments in (
        ("get", "--tenant", "acme", "none"),
        ("lease", "--tenant", "acme", "none"),
        ("outcome", "--tenant", "acme", "7"),
    ):
        done = world.command(*arguments)
        assert (done.returncode, done.stdout) == (output.EXIT_NOT_FOUND, b"")
        assert b"nothing found" in done.stderr


def test_outcome_steps_lease_due_and_pending(world: World) -> None:
    events = json_lines(world.command("ledger", "--tenant", "acme", "--json").stdout)
    outcome = json.loads(
        world.command("outcome", "--tenant", "acme", str(events[0]["work_order_event_id"]), "--json").stdout
    )
    assert outcome["outcome"] == "ACCEPTED"
    (step,) = json_lines(world.command("steps", "--tenant", "acme", "order-1", "--json").stdout)
    assert step["status"] == "SCHEDULED"
    lease = json.loads(world.command("lease", "--tenant", "acme", "order-1", "--now", str(START), "--json").stdout)
    assert lease["lease_owner_id"] == "owner-1"
    due = json.loads(world.command("due", "--tenant", "acme", "--now", str(START + HOUR), "--json").stdout)
    assert [len(due["retries"]), len(due["expired_leases"])] == [1, 1]
    assert set(due["next"].values()) == {None}
    pending = json.loads(
        world.command("pending", "--tenant", "acme", "--requester", "ada", "--now", str(START), "--json").stdout
    )
    assert [record["work_order_id"] for record in pending["records"]] == ["order-1"]
    assert pending["records"][0]["hot"] is True


def test_cancel_replays_and_refusals(world: World) -> None:
    assert world.outcome(make("WORK_ORDER_CREATED", tenant_id="gone")) == Accepted()
    arguments = ("cancel", "--tenant", "gone", "order-1", "--reason-code", "7", "--idempotency-key", "k", "--json")
    first, second = world.command(*arguments), world.command(*arguments)
    assert first.returncode == second.returncode == output.EXIT_OK
    assert json.loads(first.stdout) == json.loads(second.stdout)
    assert json.loads(first.stdout)["status"] == "CANCELED"
    again = world.command("cancel", "--tenant", "gone", "order-1", "--reason-code", "7", "--idempotency-key", "other")
    assert again.returncode == output.EXIT_REFUSED
    assert b"OS_WORK_ORDER_CANCEL_INVALID_STATE" in again.stderr


def test_audit_and_refused_show_what_lies_in_the_topics(world: World) -> None:
    world.outcome(make("FIELD_SET", tenant_id="acme", expected_last_event_id=1, idempotency_key="bad"))
    world.drain()
    trail = json_lines(world.command("audit", "--tenant", "acme", "--json").stdout)
    assert [event["outcome"] for event in trail] == ["ACCEPTED"] * 3 + ["REFUSED"]
    (refused,) = json_lines(world.command("refused", "list", "--tenant", "acme", "--json").stdout)
    assert refused["field"] == "expected_last_event_id"
    shown = json.loads(world.command("refused", "show", str(refused["event_id"]), "--json").stdout)
    assert shown["event"]["idempotency_key"] == "bad"
    assert bytes.fromhex(shown["value_hex"])[:2] == b"\xc3\x01"


def test_status_verify_and_rebuild(world: World) -> None:
    world.drain()
    lanes = json_lines(world.command("status", "--json").stdout)
    assert len(lanes) == 12
    assert all(lane["lag"] == 0 for lane in lanes)
    world.admin.execute("update os_core.work_orders_current set turn_id = 99 where tenant_id = 'acme'")
    verify = world.command("verify")
    assert verify.returncode == output.EXIT_DIFFERENCES
    assert b"differs in turn_id" in verify.stdout
    rebuild = world.command("rebuild", "--tenant", "acme", "--json")
    assert (rebuild.returncode, json.loads(rebuild.stdout)["repaired"]) == (output.EXIT_OK, 1)
    assert world.command("verify").returncode == output.EXIT_OK


def test_init_a_second_time_does_nothing(world: World) -> None:
    done = world.command("init")
    assert (done.returncode, b"nothing to do" in done.stdout) == (output.EXIT_OK, True)


NOWHERE = "127.0.0.1:1"
WORKER = ("worker", "--start-timeout", "0")


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (("status",), {"CORE_TABLES_BOOTSTRAP_SERVERS": NOWHERE}, output.EXIT_KAFKA, "Kafka"),
        (WORKER, {"CORE_TABLES_BOOTSTRAP_SERVERS": NOWHERE}, output.EXIT_KAFKA, "Kafka"),
        (("init",), {"CORE_TABLES_BOOTSTRAP_SERVERS": NOWHERE}, output.EXIT_KAFKA, "Kafka"),
        (
            ("get", "--tenant", "a", "b"),
            {"CORE_TABLES_POSTGRES_DSN": "host=127.0.0.1 port=1"},
            output.EXIT_POSTGRES,
            "Postgres",
        ),
        (
            ("worker", "--start-timeout", "0"),
            {"CORE_TABLES_POSTGRES_DSN": "host=127.0.0.1 port=1"},
            output.EXIT_POSTGRES,
            "Postgres",
        ),
        (
            ("worker", "--start-timeout", "0"),
            {"CORE_TABLES_TOPIC": "no-such-topic"},
            output.EXIT_DATABASE,
            "core-tables init",
        ),
        (("get",), {}, output.EXIT_USAGE, "--tenant"),
        (("get", "--tenant", " ", "b"), {}, output.EXIT_REFUSED, "tenant_id"),
        (("nonsense",), {}, output.EXIT_USAGE, "No such command"),
        (("append", "no-such-file"), {}, output.EXIT_USAGE, "does not exist"),
        (("verify", "--work-order", "x"), {}, output.EXIT_USAGE, "--tenant"),
        (("status",), {"CORE_TABLES_PARTITIONS": "many"}, output.EXIT_USAGE, "CORE_TABLES_PARTITIONS"),
    ],
)
def test_what_is_missing_is_named_in_one_sentence(
    world: World, arguments: tuple[str, ...], environment: dict[str, str], code: int, words: str
) -> None:
    done = world.command(*arguments, stdin=b"", **environment)
    errors = done.stderr.decode()
    assert done.returncode == code, errors
    assert words in errors
    assert "Traceback" not in errors


def test_a_database_without_migrations_is_named(world: World) -> None:
    world.admin.execute("create database empty_of_" + world.name)
    dsn = world.settings.admin().replace(f"dbname={world.name}", f"dbname=empty_of_{world.name}")
    for arguments in (("get", "--tenant", "a", "b"), WORKER, ("verify",)):
        done = world.command(*arguments, CORE_TABLES_POSTGRES_DSN=dsn)
        assert done.returncode in (output.EXIT_DATABASE, output.EXIT_PERMISSION), done.stderr
        assert b"core-tables init" in done.stderr
        assert b"Traceback" not in done.stderr


def test_a_permission_that_is_missing_is_named(world: World) -> None:
    for arguments in (("rebuild",), ("verify",), ("worker",)):
        reader = world.settings.reader()
        done = world.command(*arguments, CORE_TABLES_WORKER_DSN=reader, CORE_TABLES_OPERATOR_DSN=reader)
        assert done.returncode == output.EXIT_PERMISSION
        assert b"permission denied" in done.stderr


def test_a_topic_that_was_deleted_is_named(world: World) -> None:

    other = new_world(world.stack)
    admin = other.kafka_admin()
    for future in admin.delete_topics([other.settings.topic]).values():
        future.result()
    done = other.command("worker")
    assert done.returncode == output.EXIT_TOPIC
    assert f"the topic {other.settings.topic} does not exist" in done.stderr.decode()


def test_init_refuses_a_partition_count_other_than_the_topics(world: World) -> None:
    other = new_world(world.stack, partitions=3)
    name = f"{other.name}_second"
    other.admin.execute(f"create database {name}")
    dsn = other.settings.admin().replace(f"dbname={other.name}", f"dbname={name}")
    done = other.command("init", CORE_TABLES_POSTGRES_DSN=dsn, CORE_TABLES_PARTITIONS="12")
    assert done.returncode == output.EXIT_TOPIC
    assert b"CORE_TABLES_PARTITIONS=3" in done.stderr


def test_a_missing_cache_only_slows_the_pending_list(world: World) -> None:
    arguments = ("pending", "--tenant", "acme", "--requester", "ada", "--now", str(START), "--json")
    with_cache = json.loads(world.command(*arguments).stdout)
    done = world.command(*arguments, CORE_TABLES_REDIS_URL="redis://127.0.0.1:1/0")
    without = json.loads(done.stdout)
    assert (done.returncode, without["from_cache"]) == (output.EXIT_OK, False)
    assert without["records"] == with_cache["records"]


def test_a_worker_ends_in_good_order_on_ctrl_c_and_on_sigterm(world: World, tmp_path: Path) -> None:
    import signal

    from .world import wait_until

    for ending in (signal.SIGINT, signal.SIGTERM):
        log = tmp_path / f"{ending}.log"
        with log.open("wb") as to:
            process = world.worker_process(log=to)
        wait_until(lambda log=log: b"worker_started" in log.read_bytes(), "the worker to start")  # type: ignore[misc]
        process.send_signal(ending)
        assert process.wait(30) == 0, log.read_text()
        assert "worker_stopped" in log.read_text()


def test_the_further_reads_show_what_the_library_answers_and_how_to_continue(world: World) -> None:
    of: dict[str, Any] = {"tenant_id": "further"}
    world.append(
        make("FIELD_SET", **of, idempotency_key="k"),
        make("STEP_STARTED", **of),
        make("STEP_STARTED", **of, step_id="step-2"),
        make("LEASE_ACQUIRED", **of),
        make("EXTERNAL_APPROVAL_REQUESTED", **of),
        make("FIELD_SET", **of, expected_last_event_id=1),
    )
    assert world.outcome(make("FIELD_SET", **of, work_order_id="order-2", work_order_status="DONE")) == Accepted()

    def shown(command: str, *arguments: str) -> list[dict[str, Any]]:
        tenant = () if command == "due-tenants" else ("--tenant", "further")
        done = world.command(command, *tenant, *arguments, "--json")
        assert done.returncode == output.EXIT_OK, done.stderr
        return json_lines(done.stdout)

    (bound,) = shown("key", "order-1", "k")
    assert bound["idempotency_key"] == "k"
    (whole,) = shown("get", "order-1", "--whole")
    assert [attempt["step_id"] for attempt in whole["attempts"]] == ["step-1", "step-2"]
    assert whole["last_lease"] == shown("lease", "order-1", "--last")[0]
    assert [step["step_id"] for step in shown("steps", "order-1", "--after", "step-1", "0")] == ["step-2"]
    records = shown("correlation", whole["correlation_id"])
    assert [record["outcome"] for record in records] == ["ACCEPTED"] * 5 + ["REFUSED"]
    assert [found["work_order_id"] for found in shown("list", "--status", "DRAFT")] == ["order-1"]
    assert [found["work_order_id"] for found in shown("closed")] == ["order-2"]
    assert [found["request_id"] for found in shown("approvals", "--target", "boss")] == ["request-1"]
    assert len(shown("ledger", "--since", str(START), "--until", str(START))) == 6
    (due,) = shown("due", "--now", str(START + HOUR), "--only", "timed_out_steps", "--limit", "1")
    assert [step["step_id"] for step in due["timed_out_steps"]] == ["step-1"]
    cursor = json.dumps(due["next"]["timed_out_steps"])
    (rest,) = shown("due", "--now", str(START + HOUR), "--only", "timed_out_steps", "--after", cursor)
    assert [step["step_id"] for step in rest["timed_out_steps"]] == ["step-2"]
    (tenant,) = shown("due-tenants", "--now", str(START + HOUR), "--after", "furthel")
    assert (tenant["tenant_id"], tenant["timed_out_steps"], tenant["expired_approvals"]) == ("further", 2, 1)
    page = world.command("ledger", "--tenant", "further", "--since", str(START), "--limit", "1")
    assert f"there may be more: --after '[{START}, ".encode() in page.stdout
    for wrong in ("{", "[1]"):
        assert (
            world.command("ledger", "--tenant", "further", "--since", str(START), "--after", wrong).returncode
            != output.EXIT_OK
        )
