"""Alive and ready, as a container's probe asks for it."""

from pathlib import Path

import pytest

from core_tables.cli import output
from core_tables.cli.probe_client import ask
from core_tables.consumer.health_file import Health, health_of, read_health, write_health
from core_tables.consumer.lane import Lane
from core_tables.schemas.reasons import LaneStoppedError
from core_tables.settings.forms import http_address

from .world import World, free_ports, wait_until


def test_a_lane_is_folded_or_waits_or_has_stopped(tmp_path: Path) -> None:
    lanes = [Lane(0, 0, opened=True), Lane(1, 1), Lane(2, 2, stopped=LaneStoppedError("why")), Lane(3, 3, opened=True)]
    write_health(tmp_path / "health", health_of(lanes, in_group=True, audit_silent_s=0.5))
    health, age = read_health(tmp_path / "health")
    assert health == Health(opened=2, waiting=1, stopped=1, in_group=True, audit_silent_s=0.5)
    assert not health.ready
    assert age < 60


@pytest.mark.parametrize(
    ("health", "alive", "ready"),
    [
        (Health(0, 0, 0, in_group=True, audit_silent_s=0.0), True, True),
        (Health(0, 0, 0, in_group=False, audit_silent_s=0.0), True, False),
        (Health(3, 0, 0, in_group=True, audit_silent_s=89.0), True, True),
        (Health(3, 0, 0, in_group=True, audit_silent_s=91.0), False, True),
    ],
    ids=["assigned no lane", "lost its lanes", "audit thread silent for a while", "audit thread silent for too long"],
)
def test_a_worker_is_ready_in_its_group_and_alive_while_its_audit_thread_gives_signs(
    health: Health, alive: bool, ready: bool
) -> None:
    assert (health.alive, health.ready) == (alive, ready)


@pytest.mark.stack
def test_the_probe_tells_alive_from_ready_and_both_from_gone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "health"
    http = f"127.0.0.1:{free_ports(3)}"
    assert world.command("health").returncode == output.EXIT_MACHINE
    assert world.command("health", CORE_TABLES_HEALTH_FILE=str(file)).returncode == output.EXIT_NOT_FOUND
    assert world.command("health", CORE_TABLES_HTTP=http).returncode == output.EXIT_NOT_FOUND
    monkeypatch.setenv("CORE_TABLES_HEALTH_FILE", str(file))
    monkeypatch.setenv("CORE_TABLES_HTTP", http)
    worker = world.worker_process("--processes", "2")
    try:
        files = [tmp_path / "health.1", tmp_path / "health.2"]

        def both_fold() -> bool:
            found = [read_health(path)[0] for path in files if path.exists()]
            # The first holds all lanes for a moment, if the second joins later.
            return all(health.in_group for health in found) and [health.opened for health in found] == [6, 6]

        wait_until(both_fold, "both workers to fold their half of the lanes")
        done = world.command("health", "--ready")
        assert done.returncode == output.EXIT_OK, done.stderr
        assert done.stdout == b"alive and ready\n", "the processes were asked over HTTP"
        monkeypatch.delenv("CORE_TABLES_HTTP")
        done = world.command("health", "--ready")
        assert done.returncode == output.EXIT_OK, done.stderr
        answered = ask(http_address(http), "/readyz")
        assert answered is not None
        lanes = [lane for worker in answered.body["workers"] for lane in worker["lanes"]]
        assert sorted(lane["lane"] for lane in lanes) == list(range(12))
        assert {lane["state"] for lane in lanes} == {"folding"}
    finally:
        worker.terminate()
        worker.wait(30)
        monkeypatch.undo()
    assert (
        world.command("health", "--max-age", "0", CORE_TABLES_HEALTH_FILE=str(file)).returncode == output.EXIT_NOT_FOUND
    )
    write_health(files[0], Health(3, 1, 0, in_group=True, audit_silent_s=0.0))
    write_health(files[1], Health(0, 0, 0, in_group=False, audit_silent_s=0.0))
    done = world.command("health", "--ready", CORE_TABLES_HEALTH_FILE=str(file))
    assert done.returncode == output.EXIT_PENDING
    assert b"1 lanes wait for Kafka or Postgres and 1 workers are not in their consumer group" in done.stderr
    assert world.command("health", CORE_TABLES_HEALTH_FILE=str(file)).returncode == output.EXIT_OK
    write_health(files[0], Health(3, 0, 0, in_group=True, audit_silent_s=300.0))
    done = world.command("health", CORE_TABLES_HEALTH_FILE=str(file))
    assert done.returncode == output.EXIT_NOT_FOUND
    assert b"silent for 300 s" in done.stderr
