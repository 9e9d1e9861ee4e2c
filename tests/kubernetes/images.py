"""The images that the cluster runs: ours is built, and all of them are brought to its node by a command that is given.

How images get into a cluster differs (`kind load docker-image`, `minikube image load`, a registry), so CORE_TABLES_TEST_KUBE_LOAD
has the command; the names of the images follow it. Without it, the node must have them.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from typing import Final

from tests import containers

LOAD: Final = "CORE_TABLES_TEST_KUBE_LOAD"
IMAGES: Final = (containers.IMAGE, "postgres:18", "redis:8", "apache/kafka:4.4.0")
_LIMIT_S: Final = 1200


def build_image(say: Callable[[str], None]) -> None:
    """Build ours, if there is a Docker engine."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        say(f"no Docker engine answers, so the image {containers.IMAGE} must be there already")
        return
    say(f"build the image {containers.IMAGE}")
    containers.build_image()


def load_images(say: Callable[[str], None]) -> None:
    """Bring all images to the node."""
    command = os.environ.get(LOAD)
    if not command:
        say(f"{LOAD} is not set, so the node must have {', '.join(IMAGES)}")
        return
    say(f"load {', '.join(IMAGES)}")
    subprocess.run([*shlex.split(command), *IMAGES], check=True, timeout=_LIMIT_S, stdout=subprocess.DEVNULL)
