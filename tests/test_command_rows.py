"""What support and on call read with the command: in every format, at 80 columns, by time, over all tenants."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from core_tables.cli import doctor, output, status
from core_tables.cli.main import main
from core_tables.cli.times import shown_time
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import lane_of, offset_of
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.wire import encode_event

from .builders import HOUR, START, make
from .world import DEADLINE_S, World

pytestmark = pytest.mark.stack

LONG: Final = "order-" + "7" * 122
AT: Final = START + 123_456_789
Run = Callable[..., Result]


def event(event_type: str, **changes: Any) -> LedgerEvent:
    return make(event_type, **{"tenant_id": "rows", **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def ran(world: World) -> Iterator[Run]:
    """Runs the command in this process, as tenant `rows`, while a worker runs."""
    runner = CliRunner()

    def run(*arguments: str, **environment: str | None) -> Result:
        variables = {**world.environment(), "CORE_TABLES_TENANT": "rows", "COLUMNS": None, **environment}
        return runner.invoke(main, arguments, env=variables, prog_name="core-tables")

    with world.working():
        done: dict[str, Any] = {"work_order_status": "DONE"}
        world.append(
            event("WORK_ORDER_CREATED", created_at=AT),
            event("FIELD_SET", created_at=AT + 1, idempotency_key="wrong", expected_last_event_id=1),
            event("WORK_ORDER_CREATED", work_order_id=LONG, correlation_id=2, created_at=AT + HOUR),
            event("STATUS_CHANGED", work_order_id="order-3", correlation_id=3, created_at=START + HOUR, **done),
            event("STATUS_CHANGED", work_order_id="order-4", correlation_id=4, created_at=START + 2 * HOUR, **done),
            event("FIELD_SET", work_order_id="order-3", correlation_id=3, created_at=START + 3 * HOUR),
            event("STATUS_CHANGED", work_order_id="order-3", correlation_id=3, created_at=START + 4 * HOUR, **done),
        )
        assert world.outcome(event("WORK_ORDER_CREATED", tenant_id="second")) == Accepted()
        world.drain()
        yield run


def rows_of(done: Result) -> list[dict[str, Any]]:
    assert done.exit_code == output.EXIT_OK, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def ids(done: Result) -> list[str]:
    return [row["work_order_id"] for row in rows_of(done)]


def test_tables_and_csv_have_times_in_iso_form_and_json_has_nanoseconds(ran: Run) -> None:
    asked = ("ledger", "order-1", "--limit", "1")
    (in_json,) = rows_of(ran(*asked, "--format", "json"))
    assert in_json["created_at"] == AT
    (in_csv,) = csv.DictReader(ran(*asked, "--format", "csv").stdout.splitlines())
    assert in_csv["created_at"] == shown_time(AT)
    assert set(in_csv) == set(in_json)
    assert json.loads(in_csv["payload"]) == in_json["payload"]
    assert "2023-11-14T22:13:20.123Z" in ran(*asked).stdout
    assert rows_of(ran(*asked, "--json")) == [in_json]
    contradiction = ran(*asked, "--json", "--format", "csv")
    assert (contradiction.exit_code, "give one of them" in contradiction.stderr) == (output.EXIT_USAGE, True)


@pytest.mark.parametrize(
    "arguments", [("list", "--status", "DRAFT"), ("ledger",), ("audit", "--tenant", "rows"), ("get", LONG)]
)
def test_at_80_columns_an_id_is_whole_and_a_line_is_short_or_an_id(ran: Run, arguments: tuple[str, ...]) -> None:
    shown = ran(*arguments, COLUMNS="80").stdout
    assert LONG in shown
    assert [line for line in shown.splitlines() if len(line) > 80 and LONG not in line] == []


def test_what_is_missing_or_wrong_is_answered_with_the_option_to_use(ran: Run) -> None:
    for words, arguments in (
        ("Give --tenant TENANT_ID, or set CORE_TABLES_TENANT", ("get", "order-1")),
        ("Give --status, or --requester, or --closed-since", ("list",)),
        ("Did you mean list?", ("lst",)),
        ("--from and --to are event ids", ("ledger", "--since", "2h", "--from", "7")),
        ("in which zone?", ("ledger", "--since", "2026-01-15T08:00")),
        ("Give either its EVENT_ID, or --partition and --offset", ("refused", "show", "--partition", "1")),
        ("--work-order needs --tenant", ("audit", "--work-order", "order-1", "--follow")),
    ):
        tenant = None if arguments == ("get", "order-1") else "rows"
        done = ran(*arguments, CORE_TABLES_TENANT=tenant)
        assert (done.exit_code, words in done.stderr) == (output.EXIT_USAGE, True), done.output


def test_a_time_of_few_digits_is_shown_as_the_time_that_it_is(ran: Run) -> None:
    done = ran("ledger", "--since", "1768464000", "--limit", "1")
    assert "warning: 1768464000 nanoseconds since 1970 are 1970-01-01T00:00:01.768464Z" in done.stderr


def test_the_ledger_of_a_time_is_that_of_a_tenant_or_of_a_work_order(ran: Run) -> None:
    since, until = shown_time(START + HOUR), str(START + 3 * HOUR)
    assert ids(ran("ledger", "--since", since, "--until", until, "--json")) == ["order-3", LONG, "order-4", "order-3"]
    (found,) = rows_of(ran("ledger", "order-3", "--since", since, "--until", until, "--limit", "1", "--json"))
    assert found["created_at"] == START + HOUR
    after = ("--from", str(found["work_order_event_id"] + 1))
    (found,) = rows_of(ran("ledger", "order-3", *after, "--since", since, "--until", until, "--json"))
    assert found["created_at"] == START + 3 * HOUR


def test_work_orders_are_listed_by_requester_and_by_when_they_were_closed(ran: Run) -> None:
    assert ids(ran("list", "--requester", "ada", "--json")) == [LONG, "order-1"]
    assert ids(ran("list", "--requester", "ada", "--status", "CONFIRM", "--json")) == []
    first = ran("list", "--requester", "ada", "--limit", "1", "--json")
    assert (ids(first), "--limit 2" in first.stderr) == ([LONG], True)
    # order-3 was closed twice, and is shown once, at its last time.
    assert ids(ran("list", "--closed-since", str(START), "--json")) == ["order-3", "order-4"]
    assert ids(ran("list", "--closed-since", str(START + 3 * HOUR), "--json")) == ["order-3"]


def test_an_operator_sees_which_tenants_there_are_and_a_reader_does_not(ran: Run, world: World) -> None:
    assert rows_of(ran("tenants", "--json")) == [
        {"tenant_id": "rows", "draft": 2, "clarify": 0, "confirm": 0, "executing": 0},
        {"tenant_id": "second", "draft": 1, "clarify": 0, "confirm": 0, "executing": 0},
    ]
    page = ran("tenants", "--limit", "1", "--json")
    assert ([row["tenant_id"] for row in rows_of(page)], "--after rows" in page.stderr) == (["rows"], True)
    assert [row["tenant_id"] for row in rows_of(ran("tenants", "--after", "rows", "--json"))] == ["second"]
    for arguments in (("tenants",), ("refused", "list")):
        denied = ran(*arguments, CORE_TABLES_OPERATOR_DSN=world.settings.reader())
        assert (denied.exit_code, "permission denied" in denied.stderr) == (output.EXIT_PERMISSION, True)


def test_the_audit_trail_of_a_work_order_comes_from_the_tables_and_is_that_of_the_topic(ran: Run) -> None:
    of_topic = rows_of(ran("audit", "--tenant", "rows", "--last", "100", "--json"))
    expected = [row for row in of_topic if row["work_order_id"] == "order-1"]
    of_tables = rows_of(ran("audit", "--work-order", "order-1", "--json"))
    assert [row["outcome"] for row in of_tables] == ["ACCEPTED", "REFUSED"]
    kept = {"event_id", "outcome", "outcome_reason", "severity", "created_at", "event_type", "idempotency_key", "field"}
    assert [{name: row[name] for name in kept} for row in of_tables] == [
        {name: row[name] for name in kept} for row in expected
    ]
    assert of_tables[0] == {**expected[0], "status_before": None}
    assert rows_of(ran("audit", "--work-order", "order-1", "--since", str(AT + 1), "--json")) == of_tables[1:]
    assert ran("audit", "--work-order", "none").exit_code == output.EXIT_NOT_FOUND


def test_the_audit_trail_is_filtered_and_read_as_far_back_as_is_needed(ran: Run, world: World) -> None:
    world.append(*(event("FIELD_SET", tenant_id="far", created_at=START + turn) for turn in range(40)))
    world.drain()
    asked = ("audit", "--tenant", "rows", "--last", "1", "--json")
    (refused,) = rows_of(ran(*asked, "--outcome", "REFUSED"))
    assert refused["idempotency_key"] == "wrong"
    assert rows_of(ran(*asked, "--severity", "WARN")) == [refused]
    assert rows_of(ran(*asked, "--severity", "ERROR")) == []
    assert rows_of(ran(*asked, "--severity", "WARN", "--since", "1h")) == [refused]
    assert rows_of(ran(*asked, "--since", "+1h")) == []
    (newest,) = rows_of(ran("audit", "--tenant", "far", "--last", "1", "--json"))
    assert newest["created_at"] == START + 39


def test_refused_records_are_counted_by_tenant_and_reason_and_shown_by_position(ran: Run, tmp_path: Path) -> None:
    (count,) = [row for row in rows_of(ran("refused", "list", "--json")) if row["tenant_id"] == "rows"]
    assert (count["field"], count["refused"]) == ("expected_last_event_id", 1)
    assert "next: core-tables refused list --tenant rows\n" in ran("refused", "list").stdout
    event_id = count["newest_event_id"]
    position = ("--partition", str(lane_of(event_id)), "--offset", str(offset_of(event_id)))
    file = tmp_path / "value"
    shown = rows_of(ran("refused", "show", *position, "--output", str(file), "--json"))
    assert shown == rows_of(ran("refused", "show", str(event_id), "--json"))
    assert file.read_bytes() == encode_event(
        event("FIELD_SET", created_at=AT + 1, idempotency_key="wrong", expected_last_event_id=1)
    )
    gone = ran("refused", "list", "--tenant", "rows", "--before", str(event_id), "--json")
    assert rows_of(gone) == []


def test_status_shows_what_is_not_audited_and_goes_on_until_ctrl_c(ran: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = ran("status").stdout
    assert "not_audited" in shown
    looks = iter((status._look, status._look))

    def look(settings: Any) -> Any:
        try:
            return next(looks)(settings)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(status, "_look", look)
    watched = ran("status", "--watch", "0.2")
    assert (watched.exit_code, watched.stderr) == (output.EXIT_INTERRUPTED, "")
    assert watched.stdout.count("not_audited") == 2


def found_by_doctor(done: Result) -> dict[str, tuple[str, str]]:
    return {row["check"]: (row["state"], row["what"]) for row in map(json.loads, done.stdout.splitlines())}


def test_doctor_finds_nothing_wrong_where_all_is_well(ran: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECK_S", DEADLINE_S)
    done = ran("doctor", "--json")
    assert done.exit_code == output.EXIT_OK, done.output
    found = found_by_doctor(done)
    assert {state for state, _ in found.values()} == {"ok"}, found
    assert found["workers"] == ("ok", "1 running, with 12 of 12 lanes")
    assert ran("doctor").stdout.startswith("ok       settings")


def test_doctor_names_what_does_not_answer_and_leaves_out_what_depends_on_it(ran: Run) -> None:
    done = ran("doctor", "--json", CORE_TABLES_BOOTSTRAP_SERVERS="127.0.0.1:1")
    found = found_by_doctor(done)
    assert done.exit_code == output.EXIT_KAFKA
    assert found["Kafka"][0] == "wrong"
    assert "core-tables config" in found["Kafka"][1]
    for check in ("topics", "workers", "rights on Kafka"):
        assert (found[check][0], "needs Kafka" in found[check][1]) == ("skipped", True)


def test_doctor_names_what_is_wrong_and_what_to_do(ran: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECK_S", DEADLINE_S)
    wrong = {"CORE_TABLES_WORKER_DSN": world.settings.reader(), "CORE_TABLES_TOPIK": "x"}
    done = ran("doctor", "--json", **wrong, CORE_TABLES_REDIS_URL="redis://127.0.0.1:1/0")
    found = found_by_doctor(done)
    assert done.exit_code == output.EXIT_PERMISSION
    assert "grant core_tables_worker to core_tables_reader" in found["Postgres, worker"][1]
    assert found["tables"] == ("skipped", "needs Postgres, worker, see above")
    assert "did you mean CORE_TABLES_TOPIC?" in found["settings"][1]
    assert (found["cache"][0], "CORE_TABLES_REDIS_URL" in found["cache"][1]) == ("note", True)
