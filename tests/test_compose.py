"""docker-compose.yml: the same parts and our image, up from nothing to a folded event."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from core_tables.deploy.process import free_port
from core_tables.schemas.json_form import event_to_json

from .builders import make
from .containers import ROOT, build_image, docker_answers
from .leftovers import note_project

TIMEOUT_S = 600
PORTS = ("KAFKA", "POSTGRES", "REDIS")

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(not docker_answers(), reason="no Docker engine answers, so there is nothing to compose with"),
]


def compose(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["docker", "compose", "-p", environment["PROJECT"], *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)


@pytest.fixture(scope="module")
def composed() -> Iterator[dict[str, str]]:
    """The environment of a composed stack, on ports of its own."""
    environment = {**os.environ, "PROJECT": note_project(f"ct{os.getpid()}")}
    ports = {name: str(free_port()) for name in PORTS}
    environment |= {f"CORE_TABLES_{name}_PORT": port for name, port in ports.items()}
    build_image()
    try:
        done = compose(environment, "up", "--no-build", "--detach", "--wait", "kafka", "postgres", "redis")
        assert done.returncode == 0, done.stderr[-3000:]
        done = compose(environment, "up", "--no-build", "--detach", "--wait", "worker")
        assert done.returncode == 0, done.stderr[-3000:] + compose(environment, "logs", "init").stdout[-3000:]
        yield environment | {
            "CORE_TABLES_BOOTSTRAP_SERVERS": f"localhost:{ports['KAFKA']}",
            "CORE_TABLES_POSTGRES_DSN": f"postgresql://postgres@localhost:{ports['POSTGRES']}/core_tables",
            "CORE_TABLES_REDIS_URL": f"redis://localhost:{ports['REDIS']}/0",
        }
    finally:
        compose(environment, "down", "--volumes", "--timeout", "20")


def command(environment: dict[str, str], *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "core_tables.cli.main", *arguments]
    return subprocess.run(words, env=environment, input=stdin, capture_output=True, text=True, timeout=120)


def test_an_event_appended_from_outside_is_folded_by_the_composed_worker(composed: dict[str, str]) -> None:
    line = json.dumps(event_to_json(make("WORK_ORDER_CREATED", idempotency_key="k")))
    done = command(composed, "append", "-", "--wait", "--json", stdin=line)
    assert done.returncode == 0, done.stderr + compose(composed, "logs", "worker").stdout[-3000:]
    assert json.loads(done.stdout)["accepted"] == 1
    record = json.loads(command(composed, "get", "--tenant", "acme", "order-1", "--json").stdout)
    assert record["requester_user_id"] == "ada"
    assert command(composed, "verify").returncode == 0


def test_the_worker_ends_in_good_order(composed: dict[str, str]) -> None:
    assert compose(composed, "stop", "worker").returncode == 0
    assert "worker_stopped" in compose(composed, "logs", "worker").stdout
