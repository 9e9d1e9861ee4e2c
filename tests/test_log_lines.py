"""The worker's log: each line has its code and the fields of the runbook, and none holds a payload."""

import json
import signal
import sys
from pathlib import Path

import pytest
import structlog
from confluent_kafka import Producer

from core_tables.cli.log_lines import logger, without_values
from core_tables.schemas.events import FieldSet
from core_tables.schemas.identity import partition_of
from core_tables.schemas.reasons import LaneStoppedError
from core_tables.schemas.wire import encode_event

from .builders import make, tenant_of_another_lane
from .runbook import log_lines_of_the_runbook
from .world import World, wait_until

SECRET = "known-to-the-tenant-only"
ACME = partition_of(b"acme", 12)
OTHER = tenant_of_another_lane(ACME)
STOPS = {"lane_stopped", "lane_waits_for_release"}
UNKNOWN = b"\xc3\x01" + bytes(range(8)) + SECRET.encode()


def test_a_traceback_shows_the_messages_of_our_own_errors_only() -> None:
    def refused() -> None:
        raise ValueError(SECRET)

    try:
        try:
            refused()
        except ValueError as error:
            raise LaneStoppedError("lane 3 cannot continue") from error
    except LaneStoppedError:
        text = without_values(sys.exc_info())  # type: ignore[arg-type]
    assert SECRET not in text
    assert "in refused" in text
    first, last = text.index("ValueError\n"), text.index("LaneStoppedError: lane 3 cannot continue")
    assert first < last, "the cause comes first, as in Python's own"


def test_a_log_has_the_level_and_the_form_that_are_set(capsys: pytest.CaptureFixture[str]) -> None:
    log = logger("warning", "text", worker="w-1")
    try:
        log.info("assigned", partitions=[1])
        raise ValueError(SECRET)
    except ValueError:
        log.exception("fold_failed", lane=3)
    finally:
        structlog.reset_defaults()  # it was set for the whole process
    text = capsys.readouterr().err
    assert "assigned" not in text
    assert "fold_failed" in text
    assert "lane=3" in text
    assert "worker=w-1" in text
    assert "ValueError" in text
    assert SECRET not in text


@pytest.mark.stack
def test_every_line_of_a_run_has_its_code_and_fields_and_no_payload(
    fresh: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with accepted records, a gap, a record that Postgres rejects, and one whose schema only a later release knows."""
    expected = {line.event: line for line in log_lines_of_the_runbook()}
    log = tmp_path / "log"
    fresh.register(UNKNOWN[2:10].hex())
    monkeypatch.setenv("CORE_TABLES_LOG_LEVEL", "debug")
    with log.open("wb") as file:
        worker = fresh.worker_process(log=file)
        try:
            wait_until(lambda: log.read_text("utf-8").count("lane_opened") >= 12, "every lane to be opened")
            _append_in_a_transaction(fresh)
            wait_until(lambda: fresh.positions()[ACME][0] == 3, "the records around the gap to be folded")
            fresh.admin.execute(
                "alter table os_core.work_order_ledger add constraint planted check (turn_id <> 666) not valid"
            )
            fresh.append(make("FIELD_SET", turn_id=666, payload=FieldSet("city", SECRET)))
            fresh.produce(OTHER.encode(), UNKNOWN, partition_of(OTHER.encode(), 12))
            wait_until(lambda: all(code in log.read_text("utf-8") for code in STOPS), "two lanes to stop")
            wait_until(lambda: '"folded"' in log.read_text("utf-8"), "a summary")
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0
        finally:
            worker.kill()
    text = log.read_text("utf-8")
    assert SECRET not in text
    lines = [json.loads(line) for line in text.splitlines()]
    usual = {"assigned", "lane_opened", "batch_committed", "folded", "gap", "fold_failed", "worker_stopped"}
    assert usual | STOPS <= {line["event"] for line in lines}
    for line in lines:
        documented = expected[line["event"]]
        assert line["level"] == documented.level
        assert line.keys() - {"exception"} == {
            "event",
            "level",
            "timestamp",
            "worker",
            "group",
            "version",
            *documented.fields,
        }
        assert line["group"] == fresh.settings.group_id
        assert line["worker"].endswith(f"-{worker.pid}")
        assert ("exception" in line) == (line["event"] == "fold_failed")
        if "lane" in line:
            assert (line["topic"], line["partition"]) == (fresh.settings.topic, line["lane"])
    (failed,) = [line for line in lines if line["event"] == "fold_failed"]
    assert "CheckViolation\n" in failed["exception"]
    assert (failed["lane"], failed["offset"]) == (ACME, 4), "where the record lies, behind the marker"


def _append_in_a_transaction(world: World) -> None:
    """Two records with the marker of a transaction between them."""
    producer = Producer({"bootstrap.servers": world.stack.bootstrap_servers, "transactional.id": f"{world.name}-log"})
    producer.init_transactions(20)
    for turn in (1, 2):
        event = make("FIELD_SET", turn_id=turn, payload=FieldSet("city", SECRET))
        producer.begin_transaction()
        producer.produce(world.settings.topic, encode_event(event), b"acme", ACME)
        producer.commit_transaction(20)
