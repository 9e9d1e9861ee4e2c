"""The wheels of a release and of the one before it, on one database: old workers fold while the new `init` migrates, then both."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final
from zipfile import ZipFile

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


def installed(folder: Path) -> Path:
    """Build the wheel of the source in a folder, and unpack it as pip does: where its packages are."""
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(folder)]
    subprocess.run(command, cwd=folder / "source", check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as packed:
        packed.extractall(folder / "installed")  # noqa: S202 - built here
    return folder / "installed"


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel of this release is installed."""
    folder = tmp_path_factory.mktemp("now")
    source = folder / "source"  # a copy: a build leaves files behind
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, source)
    for room in ROOMS:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / room, source / room, ignore=ignored, symlinks=True)
    return installed(folder)


@pytest.fixture(scope="module", params=["its newest migration", "its newest change"])
def before(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel of the release before is installed: before the newest migration, and before the newest change at all."""
    paths = ["projection/postgres/migrations"] if request.param == "its newest migration" else list(ROOMS)
    added = ["--diff-filter=A"] if request.param == "its newest migration" else []
    change = git("log", "-1", "--format=%H", *added, "--", *paths).decode().strip()
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(git("archive", f"{change}^"))) as tar:
        # Python 3.11.3 and older have no filters; the archive is of this repository.
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
        tar.extractall(folder / "source")  # noqa: S202 - filtered
    return installed(folder)


def run(world: World, release: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """The command of a release on this world. What else it needs comes from this environment."""
    environment = {**world.environment(), "PYTHONPATH": str(release)}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "core_tables.cli.main", *arguments],
        cwd=release,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )


def migrated(world: World) -> set[str]:
    """The migrations that the database has."""
    return {name for (name,) in world.admin.execute("select name from os_core.migrations").fetchall()}


def workers(world: World) -> set[str]:
    """The workers that have lanes, once every lane has one."""
    group = describe_group(world.kafka_admin(), world.settings.group_id, world.settings.topic)
    owners = {} if group is None else group.of_workers()
    return set(owners.values()) if len(owners) == world.settings.partitions else set()


def test_old_workers_fold_while_the_new_init_migrates_and_then_beside_new_workers(
    stack: StackAddresses, before: Path, now: Path
) -> None:
    world = World(stack, f"upgrade{os.getpid()}{before.parent.name}".replace("-", ""))
    with ExitStack() as running, closing(world):
        assert run(world, before, "init").wait(DEADLINE_S) == 0
        wait_until(world.answers, "the broker to lead the new topic")
        applied = migrated(world)
        old = run(world, before, "worker")
        running.callback(end, old)
        world.append(*day(200))
        wait_until(lambda: workers(world), "the old worker to have all lanes")
        world.append(*day(400, seed=2))
        assert run(world, now, "init").wait(DEADLINE_S) == 0
        assert applied <= migrated(world) == set(migrations())
        world.append(*day(200, seed=3))
        world.drain()
        assert old.poll() is None, "the old worker continues after the migration"
        new = run(world, now, "worker")
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
