"""What a ledger goes through in a cluster: it is scaled, its workers are killed, evicted and replaced, and a release is bad."""

import json
import random
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import psycopg

from core_tables.deploy.stack import StackAddresses
from tests.builders import SEED, day
from tests.oracle import check_everything
from tests.world import World, wait_until

from .cluster import DEADLINE_S, WORKER, WORKERS, Cluster, is_ready, name_of
from .load import Load

Say = Callable[[str], None]
FEW, MANY = 2, 4
KILLS: Final = 4
BACKLOG: Final = 3000
_SETTLED: Final = 100  # outcomes; a phase without a fault has at least as many
_PYTHON: Final = "/opt/core-tables/bin/python"
# The pod's processes see each other, so the worker is not the first one, which no signal from inside ends.
_KILL: Final = r"""
import os, pathlib
for each in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    if b"/core-tables\0worker\0" in each.read_bytes():
        os.kill(int(each.parent.name), 9)
"""
_BAD_RELEASE: Final = {
    "spec": {
        "progressDeadlineSeconds": 60,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "worker",
                        "command": [_PYTHON, "/bad/bad_release.py"],
                        "volumeMounts": [{"name": "bad", "mountPath": "/bad"}],
                    }
                ],
                "volumes": [{"name": "bad", "configMap": {"name": "bad-release"}}],
            }
        },
    }
}


def set_up(cluster: Cluster, say: Say) -> World:
    """Everything in its namespace, and a world that is reached from here. `init` comes when its database is there."""
    cluster.remove()
    overlay = cluster.overlay()
    say(f"apply tests/kubernetes/overlays/{overlay}")
    cluster.apply(overlay)
    node = cluster.address()
    stack = StackAddresses(
        f"{node}:30092", f"postgresql://postgres@{node}:30432/core_tables", f"redis://{node}:30379/0"
    )
    for server in ("postgres", "redis", "kafka"):
        cluster.wait_rolled_out(server)
    say("Kafka, Postgres and Redis are ready")
    world: World = wait_until(lambda: _world(stack), "Postgres to be reached from here")
    cluster.kubectl(
        "wait", "job/core-tables-init", "--for=condition=complete", f"--timeout={DEADLINE_S:.0f}s", timeout_s=300
    )
    cluster.wait_for_workers(FEW)
    cluster.wait_rolled_out("core-tables-monitor")
    say(f"`init` is done, and {FEW} workers and the monitor are ready")
    return world


def _world(stack: StackAddresses) -> World | None:
    try:
        return World(stack, "kube")
    except psycopg.OperationalError:
        return None


def restarts(cluster: Cluster) -> int:
    """How often containers of workers were started again."""
    return sum(
        status["restartCount"] for pod in cluster.workers() for status in pod["status"].get("containerStatuses", ())
    )


class Journey:
    """The phases, in their order, while events are appended each second."""

    def __init__(self, cluster: Cluster, world: World, say: Say) -> None:
        self._cluster = cluster
        self._world = world
        self._say = say
        self._load = Load(world)
        self._chance = random.Random(SEED)
        self._backlog = 0

    def run(self) -> list[str]:
        """Go through all phases, then ask the oracle; how long outcomes took in each."""
        phases = {
            "two workers": self._settle,
            "two workers, then four, then two": self._scale,
            f"{KILLS} workers killed": self._kill,
            "the node drained": self._drain,
            "a rollout and a rollback": self._roll,
            "a bad release, and its rollback": self._halt,
            "two workers again": self._settle,
        }
        with self._load:
            for phase, go in phases.items():
                self._say(phase)
                with self._load.phase(phase):
                    go()
        self._say("no more events; wait until everything is folded and audited")
        self._world.drain(DEADLINE_S)
        self._stop_workers()
        appended = self._load.appended + self._backlog
        self._say(f"compare topic, tables, cache and audit: {appended} records")
        check_everything(self._world, appended)
        return self._load.report()

    def _settle(self) -> None:
        times = next(reversed(self._load.seconds.values()))

        def settled() -> bool:
            self._load.check()
            return len(times) >= _SETTLED

        wait_until(settled, f"{_SETTLED} outcomes", DEADLINE_S)
        assert self._cluster.ready_workers(), "no worker is ready"

    def _scale(self) -> None:
        scaler = {"keda": "KEDA", "hpa": "the autoscaler"}.get(self._cluster.overlay())
        if scaler is None:
            self._say("  there is no autoscaler, so kubectl scales")
            for count in (MANY, FEW):
                self._cluster.kubectl("scale", f"deployment/{WORKER}", f"--replicas={count}")
                self._cluster.wait_for_workers(count)
            return
        pods = self._cluster.wait_until(self._lagging(MANY), f"{scaler} to ask for {MANY} workers")
        self._say(f"  {scaler} asks for {pods} workers, {self._backlog} records later")
        self._cluster.wait_for_workers(MANY)
        self._say(f"  {MANY} workers are ready")
        self._world.drain(DEADLINE_S)
        self._cluster.wait_for_workers(FEW)
        self._say(f"  all is folded, and {FEW} workers are left")
        # Whatever follows starts workers, and a start looks like a backlog to an autoscaler that follows CPU time.
        self._cluster.kubectl("delete", "hpa", WORKER, "--ignore-not-found")

    def _lagging(self, wanted: int) -> Callable[[], int]:
        """Keeps a lag there; how many workers the Deployment shall have, once that is `wanted`."""

        def asked() -> int:
            ends, positions = self._world.log_ends(), self._world.positions()
            if sum(ends.values()) - sum(applied for applied, _ in positions.values()) < BACKLOG:
                self._world.append(*day(BACKLOG, seed=-1 - self._backlog))
                self._backlog += BACKLOG
            replicas = int(self._cluster.deployment()["spec"]["replicas"])
            return replicas if replicas >= wanted else 0

        return asked

    def _kill(self) -> None:
        """In turn by kill -9, after which the group waits for the worker, and by removing its pod at once."""
        for number in range(KILLS):
            victim = self._chance.choice(self._cluster.ready_workers())
            if number % 2:
                self._cluster.kubectl("delete", "pod", victim, "--grace-period=0", "--force")
                gone = partial(self._is_gone, victim)
            else:
                before = restarts(self._cluster)
                self._cluster.kubectl(
                    "exec", victim, "--", _PYTHON, "-c", _KILL, check=False
                )  # it may end with the worker
                gone = partial(self._has_restarted, before)
            self._cluster.wait_until(gone, f"{victim} to be gone")
            self._cluster.wait_for_workers(FEW)
            self._say(f"  {victim} was {'removed' if number % 2 else 'killed'}, and {FEW} workers are ready again")

    def _is_gone(self, pod: str) -> bool:
        return pod not in self._cluster.ready_workers()

    def _has_restarted(self, before: int) -> bool:
        return restarts(self._cluster) > before

    def _drain(self) -> None:
        """One worker is evicted. There is no other node for its successor, so the budget keeps the second one."""
        (node,) = {pod["spec"]["nodeName"] for pod in self._cluster.workers()}
        before = self._cluster.ready_workers()
        drain = ["kubectl", "drain", node, f"--pod-selector={WORKERS}", "--ignore-daemonsets", "--timeout=20s"]
        try:
            drained = subprocess.run(drain, capture_output=True, text=True, timeout=60, check=False)
            kept = self._cluster.ready_workers()
            waiting = [pod for pod in self._cluster.workers() if "nodeName" not in pod["spec"]]
        finally:
            self._cluster.kubectl("uncordon", node)
        assert "disruption budget" in drained.stderr, drained.stderr
        assert len(kept) == len(before) - 1, f"{kept} of {before} are left"
        assert set(kept) < set(before)
        assert waiting, "the successor of the worker that was evicted waits for a node"
        self._say("  one worker was evicted, and the disruption budget kept the other")
        self._cluster.wait_for_workers(FEW)

    def _roll(self) -> None:
        before = self._cluster.ready_workers()
        self._cluster.kubectl("rollout", "restart", f"deployment/{WORKER}")
        self._cluster.wait_rolled_out()
        assert not set(before) & set(self._cluster.ready_workers()), "all workers are new"
        self._say("  rolled out")
        self._undo()
        self._say("  rolled back")

    def _halt(self) -> None:
        before = self._cluster.ready_workers()
        self._cluster.kubectl("patch", "deployment", WORKER, "--patch", json.dumps(_BAD_RELEASE))
        self._cluster.wait_until(self._halted, "the rollout to be given up")
        pods = {name_of(pod): pod for pod in self._cluster.workers()}
        (bad,) = pods.keys() - set(before)
        assert set(before) < pods.keys(), "the workers of the release before are all there"
        assert all(is_ready(pods[name]) for name in before)
        assert not is_ready(pods[bad])
        assert "lane_stopped" in self._cluster.log(bad)
        self._say(f"  the rollout halted at its first pod, {bad}; the workers before it are all ready")
        self._cluster.kubectl("patch", "deployment", WORKER, "--patch", '{"spec": {"progressDeadlineSeconds": 900}}')
        self._undo()
        self._say("  rolled back")

    def _halted(self) -> bool:
        conditions: list[dict[str, Any]] = self._cluster.deployment()["status"]["conditions"]
        return any(each.get("reason") == "ProgressDeadlineExceeded" for each in conditions)

    def _undo(self) -> None:
        self._cluster.kubectl("rollout", "undo", f"deployment/{WORKER}")
        self._cluster.wait_rolled_out()
        self._cluster.wait_for_workers(FEW)

    def _stop_workers(self) -> None:
        """The oracle has a worker of its own, which finds nothing to do."""
        self._cluster.kubectl("delete", "scaledobject", "--all", check=False)
        self._cluster.kubectl("scale", f"deployment/{WORKER}", "--replicas=0")
        self._cluster.kubectl(
            "wait", "pod", "--selector", WORKERS, "--for=delete", f"--timeout={DEADLINE_S:.0f}s", timeout_s=300
        )
