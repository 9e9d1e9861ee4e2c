"""Alive and ready, as a container's probe asks for it."""

import json
from pathlib import Path

import pytest

from core_tables.cli import output
from core_tables.consumer.health_file import Health, read_health, write_health
from core_tables.consumer.lane import Lane
from core_tables.schemas.reasons import LaneStoppedError

from .world import World, wait_until


def test_a_lane_is_folded_or_waits_or_has_stopped(tmp_path: Path) -> None:
    lanes = [Lane(0, 0, opened=True), Lane(1, 1), Lane(2, 2, stopped=LaneStoppedError("why")), Lane(3, 3, opened=True)]
    write_health(tmp_path / "health", lanes)
    health, age = read_health(tmp_path / "health")
    assert health == Health(opened=2, waiting=1, stopped=1)
    assert not health.ready
    assert age < 60
    assert Health(0, 0, 0).ready, "a worker that was assigned no lane"


@pytest.mark.stack
def test_the_probe_tells_alive_from_ready_and_both_from_gone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "health"
    assert world.command("health").returncode == output.EXIT_MACHINE
    assert world.command("health", CORE_TABLES_HEALTH_FILE=str(file)).returncode == output.EXIT_NOT_FOUND
    monkeypatch.setenv("CORE_TABLES_HEALTH_FILE", str(file))
    worker = world.worker_process("--processes", "2")
    try:
        files = [tmp_path / "health.1", tmp_path / "health.2"]
        wait_until(
            lambda: all(path.exists() for path in files) and sum(read_health(path)[0].opened for path in files) == 12,
            "both workers to fold their lanes",
        )
        done = world.command("health", "--ready")
        assert done.returncode == output.EXIT_OK, done.stderr
    finally:
        worker.terminate()
        worker.wait(30)
        monkeypatch.undo()
    assert (
        world.command("health", "--max-age", "0", CORE_TABLES_HEALTH_FILE=str(file)).returncode == output.EXIT_NOT_FOUND
    )
    files[0].write_text(json.dumps(Health(3, 1, 0)._asdict()), "utf-8")
    done = world.command("health", "--ready", CORE_TABLES_HEALTH_FILE=str(file))
    assert done.returncode == output.EXIT_PENDING
    assert b"1 lanes wait" in done.stderr
    assert world.command("health", CORE_TABLES_HEALTH_FILE=str(file)).returncode == output.EXIT_OK
