"""A cluster as kubectl shows it, and what the tests do to it."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.world import wait_until

NAMESPACE: Final = "core-tables-test"
WORKER: Final = "core-tables-worker"
WORKERS: Final = "app.kubernetes.io/component=worker"
OVERLAY: Final = "CORE_TABLES_TEST_KUBE_OVERLAY"
OVERLAYS: Final = Path(__file__).parent / "overlays"
DEADLINE_S: Final = 240.0
_ASK_EVERY_S: Final = 1.0  # each question starts a program
_END_OF_LOG: Final = 15


class Cluster:
    """The cluster of kubectl's current context."""

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True, timeout_s: float = DEADLINE_S) -> str:
        """What a command of kubectl prints. Raises AssertionError with what it complains about."""
        command = ["kubectl", "--namespace", NAMESPACE, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
        assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.stderr.strip()}"
        return done.stdout

    def why_not(self) -> str:
        """Why nothing can be tried in it; empty if everything can."""
        if shutil.which("kubectl") is None:
            return "kubectl is not installed"
        command = ["kubectl", "version", "--request-timeout=5s"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return "" if done.returncode == 0 else f"no cluster answers kubectl: {done.stderr.strip()}"

    def address(self) -> str:
        """The address of a node; its ports are open to anyone who reaches it."""
        found: str = self.kubectl(
            "get", "nodes", "-o", 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}'
        )
        return found

    def overlay(self) -> str:
        """The overlay of what can scale here: `keda`, `hpa` if there are metrics of pods only, else `plain`."""
        if given := os.environ.get(OVERLAY):
            return given
        if self._serves("v1beta1.external.metrics.k8s.io"):
            return "keda"
        return "hpa" if self._serves("v1beta1.metrics.k8s.io") else "plain"

    def _serves(self, metrics: str) -> bool:
        command = ["get", "apiservice", metrics, "--ignore-not-found"]
        ready = 'jsonpath={.status.conditions[?(@.type=="Available")].status}'
        return self.kubectl(*command, "-o", ready) == "True"

    def apply(self, overlay: str) -> None:
        """Make everything of an overlay."""
        manifests = self.kubectl("kustomize", str(OVERLAYS / overlay)).replace("NODE_ADDRESS", self.address())
        self.kubectl("apply", "--filename", "-", stdin=manifests)
        program = f"--from-file={Path(__file__).parent / 'bad_release.py'}"
        self.kubectl("create", "configmap", "bad-release", program)

    def kinds(self) -> set[str]:
        """The kinds of objects that it knows."""
        return {line.split()[-1] for line in self.kubectl("api-resources", "--no-headers").splitlines()}

    def admit(self, manifests: str) -> None:
        """See that the API server would take manifests as they are. Raises AssertionError if it would not."""
        self.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename", "-", stdin=manifests)

    def remove(self) -> None:
        """Remove everything."""
        self.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")

    def wait_rolled_out(self, deployment: str = WORKER) -> None:
        """Wait until all pods of a Deployment are of its last release, and available."""
        self.kubectl("rollout", "status", f"deployment/{deployment}", f"--timeout={DEADLINE_S:.0f}s", timeout_s=300)

    def deployment(self) -> dict[str, Any]:
        """The Deployment of the workers."""
        found: dict[str, Any] = json.loads(self.kubectl("get", "deployment", WORKER, "-o", "json"))
        return found

    def workers(self) -> list[dict[str, Any]]:
        """The workers' pods that are not on their way out, in the order of their names."""
        items = json.loads(self.kubectl("get", "pods", "--selector", WORKERS, "-o", "json"))["items"]
        staying = [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]
        return sorted(staying, key=name_of)

    def ready_workers(self) -> list[str]:
        """The names of those that are ready."""
        return [name_of(pod) for pod in self.workers() if is_ready(pod)]

    def wait_for_workers(self, count: int, deadline_s: float = DEADLINE_S) -> None:
        """Wait until exactly as many workers are there, and all of them are ready."""

        def arrived() -> bool:
            pods = self.workers()
            return len(pods) == count == sum(map(is_ready, pods))

        wait_until(arrived, f"{count} workers that are ready", deadline_s, _ASK_EVERY_S)

    def wait_until(self, condition: Any, what: str, deadline_s: float = DEADLINE_S) -> Any:
        """Wait for something in the cluster."""
        return wait_until(condition, what, deadline_s, _ASK_EVERY_S)

    def log(self, pod: str) -> str:
        """What a pod logged, its containers that ended included."""
        return self.kubectl("logs", pod, "--previous", check=False) + self.kubectl("logs", pod, check=False)

    def diagnosis(self) -> str:
        """What somebody needs who wants to know why a run failed."""
        shown = [
            self.kubectl("get", "pods,jobs,deployments,hpa", "-o", "wide", check=False),
            self.kubectl("get", "events", "--sort-by=.lastTimestamp", check=False),
        ]
        for pod in self.kubectl("get", "pods", "-o", "name", check=False).split():
            lines = self.log(pod).splitlines()[-_END_OF_LOG:]
            shown.append("\n".join([f"the end of the log of {pod}:", *lines]))
        return "\n".join(shown)


def name_of(pod: dict[str, Any]) -> str:
    """The name of a pod."""
    return str(pod["metadata"]["name"])


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod's readiness probe succeeds."""
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
