"""A release and the one before it, on one database: old workers fold while the new `init` migrates, then both fold."""

import io
import os
import subprocess
import sys
import tarfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest

from core_tables.deploy.stack import StackAddresses
from core_tables.kafka.group import describe_group
from core_tables.projection.postgres.migrate import migrations

from .builders import day
from .oracle import check_everything
from .world import DEADLINE_S, World, wait_until

pytestmark = pytest.mark.stack

ROOT: Final = Path(__file__).parents[1]
ROOMS: Final = ("schemas", "settings", "kafka", "projection", "producer", "consumer", "console", "cli", "deploy", "src")


def git(*arguments: str) -> bytes:
    """What git prints; the test is skipped where there is no history."""
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"there is no history to take the release before from: {error}")


def unpacked_before(folder: Path, change: str) -> Path:
    """The code before a change, as a wheel of it would have it."""
    archive = git("archive", f"{change}^")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        # Python 3.11.3 and older have no filters; the archive is of this repository.
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
        tar.extractall(folder)  # noqa: S202 - filtered
    return folder / "src"


@pytest.fixture(scope="module", params=["its newest migration", "its newest change"])
def before(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the code of the release before lies: before the newest migration, and before the newest change at all."""
    paths = ["projection/postgres/migrations"] if request.param == "its newest migration" else list(ROOMS)
    added = ["--diff-filter=A"] if request.param == "its newest migration" else []
    change = git("log", "-1", "--format=%H", *added, "--", *paths).decode().strip()
    return unpacked_before(tmp_path_factory.mktemp("before"), change)


def run(world: World, source: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """The command of a release on this world."""
    environment = {**world.environment(), "PYTHONPATH": str(source)}
    return subprocess.Popen(
        [sys.executable, "-m", "core_tables.cli.main", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )


def workers(world: World) -> set[str]:
    """The workers that have lanes, once every lane has one."""
    group = describe_group(world.kafka_admin(), world.settings.group_id, world.settings.topic)
    owners = {} if group is None else group.of_workers()
    return set(owners.values()) if len(owners) == world.settings.partitions else set()


def test_old_workers_fold_while_the_new_init_migrates_and_then_beside_new_workers(
    stack: StackAddresses, before: Path
) -> None:
    world = World(stack, f"upgrade{os.getpid()}{before.parent.name}".replace("-", ""))
    with ExitStack() as running, closing(world):
        assert run(world, before, "init").wait(DEADLINE_S) == 0
        wait_until(world.answers, "the broker to lead the new topic")
        applied = [name for (name,) in world.admin.execute("select name from os_core.migrations").fetchall()]
        old = run(world, before, "worker")
        running.callback(end, old)
        world.append(*day(200))
        wait_until(lambda: workers(world), "the old worker to have all lanes")
        world.append(*day(400, seed=2))
        done = world.init()
        missing = [f"applied the migration {name}" for name in migrations() if name not in applied]
        assert [line for line in done if line.startswith("applied")] == missing
        world.append(*day(200, seed=3))
        world.drain()
        assert old.poll() is None, "the old worker continues after the migration"
        new = run(world, ROOT / "src", "worker")
        running.callback(end, new)
        wait_until(lambda: len(workers(world)) == 2, "both workers to have lanes")
        world.append(*day(400, seed=4))
        world.drain()
        old.terminate()
        assert old.wait(DEADLINE_S) == 0
        world.append(*day(200, seed=5))
        world.drain()
        new.terminate()
        assert new.wait(DEADLINE_S) == 0
        check_everything(world, 1400)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Leave nothing behind, whatever failed."""
    process.kill()
    process.wait()
