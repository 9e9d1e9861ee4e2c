"""The settings: passwords stay out of their texts, and a misspelt variable is named."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from core_tables import Ledger, LedgerSettings, SetupError
from core_tables.cli import output
from core_tables.cli.main import main
from core_tables.deploy.stack import StackAddresses
from core_tables.kafka.client_settings import KafkaSettings
from core_tables.settings.environment import SECRETS, Settings, unknown_variables

SECRET = "hunter2"
DSN = f"postgresql://ada:{SECRET}@db/core_tables"
REDIS = f"redis://:{SECRET}@cache/0"
KAFKA = {"sasl.password": SECRET}


def with_passwords() -> Iterator[object]:
    settings = Settings(
        bootstrap_servers="kafka:9092",
        postgres_dsn=DSN,
        worker_dsn=DSN,
        reader_dsn=DSN,
        operator_dsn=DSN,
        redis_url=REDIS,
        kafka=KAFKA,
    )
    yield from (settings, LedgerSettings.of(settings), settings.kafka_settings())
    yield LedgerSettings("kafka:9092", DSN, kafka=KAFKA, redis_url=REDIS)
    yield KafkaSettings("kafka:9092", extra=KAFKA)
    yield StackAddresses("kafka:9092", DSN, REDIS)


def test_no_text_of_the_settings_holds_a_password() -> None:
    for value in with_passwords():
        assert "kafka:9092" in repr(value)
        for text in (repr(value), str(value), f"{value}"):
            assert SECRET not in text


@pytest.mark.parametrize(
    "wrong", [{"postgres_dsn": f"{SECRET} nonsense"}, {"redis_url": f"{SECRET}:6379"}, {"kafka": f"[{SECRET}"}]
)
def test_no_error_about_a_setting_quotes_its_value(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(wrong)
    assert SECRET not in str(refused.value)
    assert SECRET not in repr(refused.value)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("CORE_TABLES_PARTITION", "did you mean CORE_TABLES_PARTITIONS?"),
        ("core_tables_redis", "did you mean CORE_TABLES_REDIS_URL?"),
        ("CORE_TABLES_POSTGRES_DSM", "did you mean CORE_TABLES_POSTGRES_DSN?"),
        ("CORE_TABLES_COLOUR", "see docs/CONFIGURATION.md for the settings"),
        ("CORE_TABLES_", "see docs/CONFIGURATION.md for the settings"),
    ],
)
def test_a_variable_that_is_no_setting_is_named_with_the_one_that_may_be_meant(name: str, advice: str) -> None:
    assert unknown_variables([name, "HOME", "CORE_TABLES_TOPIC", "core_tables_topic"]) == {name: advice}


def test_what_kubernetes_docker_and_our_tests_set_is_not_taken_for_a_setting() -> None:
    names = ("TEST_STACK", "COMPILED", "SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP_ADDR", "KAFKA_PORT")
    assert unknown_variables(f"CORE_TABLES_{name}" for name in names) == {}


def test_a_ledger_that_is_connected_with_the_environment_warns_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORE_TABLES_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("CORE_TABLES_POSTGRES_DSN", "postgresql://nobody@127.0.0.1:1/x")
    monkeypatch.setenv("CORE_TABLES_POSTGRES_DSM", "postgresql://secret@127.0.0.1:1/x")
    with pytest.warns(UserWarning, match="DSM is not a setting of Core Tables.*did you mean CORE_TABLES_POSTGRES_DSN"):
        LedgerSettings.from_environment()


def test_the_command_names_it_and_does_its_work(tmp_path: Path) -> None:
    environment = {**os.environ, "CORE_TABLES_STACK_DIR": str(tmp_path), "CORE_TABLES_PARTITION": "24"}
    command = [sys.executable, "-m", "core_tables.cli.main", "stack", "status"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == output.EXIT_NOT_FOUND
    assert done.stderr == (
        "warning: CORE_TABLES_PARTITION is not a setting, and is ignored; did you mean CORE_TABLES_PARTITIONS?\n"
    )
    assert "stopped" in done.stdout


def test_a_setting_with_a_password_can_come_from_a_file_which_is_read_each_time(tmp_path: Path) -> None:
    for name in SECRETS:
        file = tmp_path / name
        file.write_text({"redis_url": REDIS, "kafka": json.dumps(KAFKA)}.get(name, DSN) + "\n", "utf-8")
        settings = Settings.model_validate({"bootstrap_servers": "kafka:9092", f"{name}_file": file})
        assert SECRET not in repr(settings)
    given = Settings(bootstrap_servers="kafka:9092", postgres_dsn_file=tmp_path / "postgres_dsn")
    assert given.admin() == DSN
    assert SECRET in given.worker()
    (tmp_path / "postgres_dsn").write_text(DSN.replace(SECRET, "another"), "utf-8")
    assert SECRET not in given.worker()
    kafka = Settings(bootstrap_servers="kafka:9092", kafka_file=tmp_path / "kafka").kafka_settings()
    assert kafka.extra == KAFKA
    assert kafka.credentials is not None
    (tmp_path / "kafka").write_text(json.dumps({"sasl.username": "ada", "sasl.password": "another"}), "utf-8")
    assert kafka.credentials() == ("ada", "another")


@pytest.mark.parametrize("content", [None, f"{SECRET} nonsense"])
def test_a_file_that_cannot_be_used_is_named_without_what_it_holds(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "dsn").write_text(content, "utf-8")
    with pytest.raises(ValidationError, match="CORE_TABLES_WORKER_DSN_FILE") as refused:
        Settings(worker_dsn_file=tmp_path / "dsn")
    assert SECRET not in str(refused.value)


def test_a_setting_and_its_file_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="CORE_TABLES_READER_DSN and CORE_TABLES_READER_DSN_FILE are both set"):
        Settings(reader_dsn=DSN, reader_dsn_file=tmp_path / "dsn")


@pytest.mark.parametrize("both", [True, False])
def test_the_command_says_which_file_is_wrong(tmp_path: Path, both: bool) -> None:
    environment = {**os.environ, "CORE_TABLES_WORKER_DSN_FILE": str(tmp_path / "missing")}
    if both:
        environment["CORE_TABLES_WORKER_DSN"] = DSN
    command = [sys.executable, "-m", "core_tables.cli.main", "init"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == output.EXIT_USAGE
    assert done.stderr.startswith("error: ")
    assert "CORE_TABLES_WORKER_DSN_FILE" in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize("path", ["no.such.module:f", "json:no_such", "json", "json:__name__"])
def test_a_callback_that_cannot_be_imported_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match=r"package\.module:function was expected"):
        Settings(kafka_oauth=path)


def test_a_ledger_connected_without_settings_has_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORE_TABLES_BOOTSTRAP_SERVERS", "kafka:9092")
    monkeypatch.setenv("CORE_TABLES_READER_DSN", DSN)
    monkeypatch.setenv("CORE_TABLES_TOPIC", "another.ledger")
    given = LedgerSettings.from_environment()
    assert (given.bootstrap_servers, given.topic) == ("kafka:9092", "another.ledger")
    assert callable(given.postgres_dsn)
    assert given.postgres_dsn() == DSN
    assert SECRET not in repr(given)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CORE_TABLES_READER_DSN", f"{SECRET} nonsense", "CORE_TABLES_READER_DSN is invalid: an address of Postgres"),
        ("CORE_TABLES_KAFKA", f"[{SECRET}", "CORE_TABLES_KAFKA is invalid: a JSON object was expected"),
        (
            "CORE_TABLES_STACK_DIR",
            "/nowhere",
            "CORE_TABLES_BOOTSTRAP_SERVERS is not set, and no local stack is running",
        ),
    ],
)
def test_what_is_wrong_or_missing_in_the_environment_is_named_to_a_program(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SetupError) as refused:
        Ledger.connect()
    assert refused.value.message.startswith(message)
    assert SECRET not in refused.value.message


def test_the_command_shows_what_is_in_use_from_where_and_without_passwords(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("CORE_TABLES_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "redis"
    file.write_text(REDIS, "utf-8")
    environment = {
        "CORE_TABLES_STACK_DIR": str(tmp_path),
        "CORE_TABLES_POSTGRES_DSN": DSN,
        "CORE_TABLES_REDIS_URL_FILE": str(file),
        "CORE_TABLES_KAFKA": json.dumps(KAFKA),
    }
    done = CliRunner(env=environment).invoke(main, ["config", "--json"])
    assert done.exit_code == 0, done.output
    assert SECRET not in done.output
    shown = {line["variable"]: line for line in map(json.loads, done.output.splitlines())}
    assert set(shown) == {f"CORE_TABLES_{name.upper()}" for name in Settings.model_fields}
    origins = {name.removeprefix("CORE_TABLES_"): line["from"] for name, line in shown.items()}
    assert origins["POSTGRES_DSN"] == origins["KAFKA"] == origins["STACK_DIR"] == "environment"
    assert origins["WORKER_DSN"] == origins["READER_DSN"] == "CORE_TABLES_POSTGRES_DSN"
    assert origins["REDIS_URL"] == "CORE_TABLES_REDIS_URL_FILE"
    assert origins["BOOTSTRAP_SERVERS"] == "not set, and no local stack runs"
    assert origins["PARTITIONS"] == "default"
    assert "user=core_tables_worker" in shown["CORE_TABLES_WORKER_DSN"]["value"]
    assert "***" in shown["CORE_TABLES_REDIS_URL"]["value"]


def test_every_setting_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "CONFIGURATION.md").read_text("utf-8")
    documented = set(re.findall(r"`CORE_TABLES_(\w+)`", text))
    files = {f"{name.upper()}_FILE" for name in SECRETS}
    assert {name.upper() for name in Settings.model_fields} - files == documented - files
