"""docker-compose.secured.yml: up from nothing to a folded event, with the secrets that it made."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from core_tables.deploy.process import free_port
from core_tables.schemas.json_form import event_to_json

from .builders import START, make
from .containers import ROOT, build_image, docker_answers
from .leftovers import note, note_project

TIMEOUT_S = 600
PORTS = ("KAFKA", "POSTGRES", "REDIS")

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(not docker_answers(), reason="no Docker engine answers, so there is nothing to compose with"),
]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the secrets of a composed stack, on ports of its own."""
    folder = note(tmp_path_factory.mktemp("composed"))
    project = note_project(f"cts{os.getpid()}")
    environment = {**os.environ, "SECRETS": str(folder)}
    environment |= {f"CORE_TABLES_{name}_PORT": str(free_port()) for name in PORTS}

    def compose(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = ["docker", "compose", "-f", "docker-compose.secured.yml", "-p", project, *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)

    build_image()
    try:
        done = compose("up", "--no-build", "--detach")
        assert done.returncode == 0, (
            done.stderr[-3000:] + compose("logs", "kafka-grants", "init", "postgres-grants").stdout
        )
        yield folder
    finally:
        compose("down", "--volumes", "--timeout", "20")


def command(env_file: Path, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the command with the settings that a file of the secrets exports."""
    exported = dict(re.findall(r"^export (\w+)=(.+)$", env_file.read_text("utf-8"), re.MULTILINE))
    words = [sys.executable, "-m", "core_tables.cli.main", *arguments]
    return subprocess.run(
        words, env={**os.environ, **exported}, input=stdin, capture_output=True, text=True, timeout=120
    )


def test_an_event_appended_from_outside_is_folded_by_the_secured_worker(secrets: Path) -> None:
    line = json.dumps(event_to_json(make("WORK_ORDER_CREATED", idempotency_key="k")))
    producer, operator = secrets / "host" / "producer.env", secrets / "host" / "operator.env"
    done = command(producer, "append", "-", "--wait", "--json", stdin=line)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accepted"] == 1
    pending = command(producer, "pending", "--tenant", "acme", "--requester", "ada", "--now", str(START))
    assert "order-1" in pending.stdout, pending.stderr
    for words in (["verify"], ["verify", "--topic"], ["status"]):
        done = command(operator, *words)
        assert done.returncode == 0, done.stdout + done.stderr


def test_nobody_comes_in_without_tls(secrets: Path) -> None:
    dsn = (secrets / "host" / "worker" / "dsn").read_text("ascii")
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(dsn.replace("sslmode=verify-full", "sslmode=disable"))
