"""The command where something is wrong: with what was given, with what is stored, or with what it needs."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from core_tables.cli import output
from core_tables.schemas import events
from core_tables.schemas.identity import event_id_at, partition_of
from core_tables.schemas.json_form import event_to_json
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.wire import encode_event

from .builders import make
from .world import DEADLINE_S, World, new_world, wait_until

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module", autouse=True)
def _worker(world: World) -> Iterator[None]:
    with world.working():
        yield


def test_a_cancel_whose_key_is_bound_by_another_event_says_that_nothing_was_canceled(world: World) -> None:
    created = make("WORK_ORDER_CREATED", tenant_id="bound", idempotency_key="taken")
    assert world.outcome(created) == Accepted()
    arguments = ("cancel", "--tenant", "bound", "order-1", "--reason-code", "7", "--idempotency-key")
    done = world.command(*arguments, "taken")
    assert (done.returncode, done.stdout) == (output.EXIT_REFUSED, b"")
    assert b"OS_WORK_ORDER_IDEMPOTENCY_REPLAY (idempotency_key): nothing was canceled" in done.stderr
    current = world.reads.current("bound", "order-1")
    assert current is not None
    assert current.work_order_status == "DRAFT"
    for _ in range(2):
        assert world.command(*arguments, "free").returncode == output.EXIT_OK


def test_what_looks_like_markup_is_shown_as_it_is(world: World) -> None:
    odd = "[/x] [red]order[/red] [link"
    payload = events.WorkOrderCreated("ada", fields={"[/bold]": "[blink]"})
    assert world.outcome(make("WORK_ORDER_CREATED", tenant_id="odd", work_order_id=odd, payload=payload)) == Accepted()
    for arguments in (("get", "--tenant", "odd", odd), ("ledger", "--tenant", "odd")):
        done = world.command(*arguments)
        assert done.returncode == output.EXIT_OK, done.stderr
        assert odd in done.stdout.decode()
    shown = world.command("get", "--tenant", "odd", odd).stdout.decode()
    assert '[/bold]: "[blink]"' in shown


SECRET = "hunter2"
WRONG_SETTINGS = [
    *((f"CORE_TABLES_{role}_DSN", f"{SECRET} nonsense") for role in ("POSTGRES", "WORKER", "READER", "OPERATOR")),
    ("CORE_TABLES_POSTGRES_DSN", f"host=127.0.0.1 passwort={SECRET}"),
    ("CORE_TABLES_REDIS_URL", "127.0.0.1:6379"),
    ("CORE_TABLES_KAFKA", "{not json"),
    ("CORE_TABLES_KAFKA", "[]"),
    ("CORE_TABLES_KAFKA", '{"linger.ms": 5}'),
    ("CORE_TABLES_KAFKA", '{"no.such.property": "1"}'),
    ("CORE_TABLES_KAFKA", '{"linger.ms": "soon"}'),
    ("CORE_TABLES_TOPIC", ""),
]


@pytest.mark.parametrize(("variable", "value"), WRONG_SETTINGS)
@pytest.mark.parametrize("command", ["status", "worker", "init"])
def test_a_setting_that_is_not_right_is_named_in_one_sentence(
    world: World, command: str, variable: str, value: str
) -> None:
    done = world.command(command, stdin=b"", **{variable: value})
    errors = done.stderr.decode()
    assert done.returncode == output.EXIT_USAGE, errors
    assert errors.startswith(f"error: {variable} is invalid: ")
    assert errors.count("\n") == 1
    assert SECRET not in errors


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("get", "--tenant", "acme", b"\xff"), "work_order_id"),
        (("get", "--tenant", b"\xff", "order-1"), "tenant_id"),
        (("ledger", "--tenant", "acme", b"order-\xff"), "work_order_id"),
        (("pending", "--tenant", "acme", "--requester", b"\xff"), "requester_user_id"),
        (("audit", "--tenant", b"\xff"), "tenant_id"),
        (("refused", "list", "--tenant", b"\xff"), "tenant_id"),
        (("verify", "--tenant", b"\xff"), "tenant_id"),
        (("rebuild", "--tenant", "acme", "--work-order", b"\xff"), "work_order_id"),
        (("outcome", "--tenant", "acme", str(2**63)), "event_ids"),
        (("get", "--tenant", "acme", "order-1", "--at", str(2**64)), "event_id"),
        (("ledger", "--tenant", "acme", "--from", str(2**63)), "first_id"),
        (("due", "--tenant", "acme", "--now", str(2**63)), "now"),
        (("get", "--tenant", "acme", "--correlation-id", str(2**128)), "correlation_id"),
    ],
)
def test_an_argument_that_no_column_holds_is_a_contract_failure_of_its_field(
    world: World, arguments: tuple[Any, ...], field: str
) -> None:
    done = world.command(*arguments)
    errors = done.stderr.decode()
    assert done.returncode == output.EXIT_REFUSED, errors
    assert errors.startswith(f"error: OS_WORK_ORDER_CONTRACT_VALIDATION_FAILED ({field}): ")


def test_an_append_that_no_broker_answers_is_told_as_unknown(world: World) -> None:
    line = json.dumps(event_to_json(make("FIELD_SET", idempotency_key="k"))).encode() + b"\n"
    settings = {"CORE_TABLES_BOOTSTRAP_SERVERS": "127.0.0.1:1", "CORE_TABLES_KAFKA": '{"delivery.timeout.ms": "1000"}'}
    done = world.command("append", "-", "--json", stdin=line * 3, **settings)
    assert done.returncode == output.EXIT_KAFKA, done.stderr
    assert (json.loads(done.stdout)["appended"], json.loads(done.stdout)["unknown"]) == (0, 3)
    assert b"send it again with the same idempotency key" in done.stderr


def test_a_reader_without_a_permission_is_told_so(world: World) -> None:
    role = f"{world.name}_stranger"
    world.create_role(role)
    try:
        reader = make_conninfo(world.settings.admin(), user=role)
        for arguments in (("get", "--tenant", "acme", "order-1"), ("refused", "list")):
            done = world.command(*arguments, CORE_TABLES_READER_DSN=reader, CORE_TABLES_OPERATOR_DSN=reader)
            assert done.returncode == output.EXIT_PERMISSION, done.stderr
            assert b"permission denied" in done.stderr
    finally:
        world.admin.execute(f"drop role {role}".encode())


def test_a_worker_whose_lanes_have_stopped_ends_with_an_exit_code_of_its_own(world: World) -> None:
    single = new_world(world.stack, partitions=1)
    single.register("0102030405060708")
    single.produce(b"acme", b"\xc3\x01" + b"\x01\x02\x03\x04\x05\x06\x07\x08" + b"body of a later release", 0)
    process = single.worker_process()
    assert process.wait(60) == output.EXIT_LANE_STOPPED


def test_verify_against_the_topic_tells_by_its_exit_code(world: World) -> None:
    other = new_world(world.stack, partitions=2)
    with other.working():
        assert other.outcome(make("WORK_ORDER_CREATED")) == Accepted()
        other.drain()
    equal = other.command("verify", "--topic")
    assert (equal.returncode, b"0 differences" in equal.stdout) == (output.EXIT_OK, True), equal.stdout
    other.admin.execute("alter table os_core.work_order_ledger disable trigger user")
    other.admin.execute("update os_core.work_order_ledger set turn_id = 77")
    differs = other.command("verify", "--topic", "--json")
    assert differs.returncode == output.EXIT_DIFFERENCES, differs.stderr
    assert len(json.loads(differs.stdout)["differences"]) == 1


def test_records_of_nobody_are_listed_and_shown_with_their_headers(world: World) -> None:
    partition = partition_of(b"acme", 12)
    value = encode_event(make("FIELD_SET"))
    offset = world.produce(b"not the tenant", value, partition, traceparent=b"00-1-2-03", odd=b"\xff\x00")
    world.drain()
    event_id = event_id_at(partition, offset)
    shown = world.command("refused", "list")
    assert (shown.returncode, b"_unattributed" in shown.stdout) == (output.EXIT_OK, True)
    of_nobody = world.command("refused", "list", "--tenant", "_unattributed", "--json")
    listed = [json.loads(found) for found in of_nobody.stdout.splitlines()]
    (record,) = [found for found in listed if found["event_id"] == event_id]
    assert (record["reason_code"], record["field"]) == ("OS_WORK_ORDER_TENANT_SCOPE_VIOLATION", "tenant_id")
    record = json.loads(world.command("refused", "show", str(event_id), "--json").stdout)
    assert record["headers"] == [
        {"name": "traceparent", "value": "00-1-2-03"},
        {"name": "odd", "value_hex": "ff00"},
    ]
    assert bytes.fromhex(record["key_hex"]) == b"not the tenant"
    assert "00-1-2-03" in world.command("refused", "show", str(event_id)).stdout.decode()


def test_the_trail_is_followed_without_a_gap_and_in_the_order_of_the_ledger(world: World) -> None:
    """Events are appended all the time, with a created_at that falls; the trail shows each once, by event id."""
    ended = threading.Event()
    ids: list[int] = []

    def appending() -> None:
        for turn in range(400):
            event = make("FIELD_SET", tenant_id="trail", turn_id=turn + 1, created_at=10_000 - turn)
            ids.append(world.ledger.append(event).event_id())
            ended.wait(0.01)

    writer = threading.Thread(target=appending)
    writer.start()
    wait_until(lambda: len(ids) > 50, "some events to be there before anybody asks")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "core_tables.cli.main",
            "audit",
            "--tenant",
            "trail",
            "--last",
            "100000",
            "--follow",
            "--json",
        ],
        env={**os.environ, **world.environment()},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    late = threading.Timer(DEADLINE_S, process.kill)
    late.start()
    try:
        seen = [json.loads(process.stdout.readline())["event_id"] for _ in range(400)]
    finally:
        late.cancel()
        process.terminate()
        process.communicate()
        ended.set()
        writer.join()
    assert seen == ids
    done = world.command("audit", "--tenant", "trail", "--last", "3", "--json")
    assert [json.loads(found)["event_id"] for found in done.stdout.splitlines()] == ids[-3:]
