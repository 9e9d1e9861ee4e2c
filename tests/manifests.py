"""The Kubernetes manifests as `kubectl kustomize` builds them, as plain values."""

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

KUBERNETES = Path(__file__).parent.parent / "deploy" / "kubernetes"
OVERLAYS = {
    "local": KUBERNETES / "overlays" / "local",
    "production-example": KUBERNETES / "overlays" / "production-example",
    "recipes": Path(__file__).parent / "kubernetes" / "overlays" / "recipes",
}

needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed, and builds the manifests"
)


@cache
def built(overlay: str) -> str:
    """What would be applied, as YAML."""
    command = ["kubectl", "kustomize", str(OVERLAYS[overlay])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(overlay: str) -> list[dict[str, Any]]:
    """Each object of an overlay."""
    return list(yaml.safe_load_all(built(overlay)))


def pods(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pods that Deployments and Jobs of an overlay make, by the name of what makes them."""
    for each in objects(overlay):
        if each["kind"] in {"Deployment", "Job"}:
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def ours(overlay: str) -> dict[str, dict[str, Any]]:
    """The pods of Core Tables itself, by the name of what makes them."""
    return {name: pod for name, pod in pods(overlay) if name.startswith("core-tables")}
