"""A ledger in a real cluster, from nothing to two workers, through all that happens to workers there: `make test-kube`."""

import json
import os
from collections.abc import Iterator

import pytest
import yaml

from tests.builders import day
from tests.manifests import objects
from tests.world import World

from .cluster import DEADLINE_S, NAMESPACE, OVERLAYS, WORKER, Cluster
from .images import load_images
from .journey import Journey, restarts, set_up


def why_not() -> str:
    """Why these tests are left out; empty if they run."""
    if os.environ.get("CORE_TABLES_TEST_KUBE") != "1":
        return "CORE_TABLES_TEST_KUBE is not 1; `make test-kube` sets it"
    return Cluster().why_not()


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The cluster, with nothing of ours left in it at the end."""
    used = Cluster()
    load_images(print)
    try:
        yield used
    finally:
        used.remove()


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Iterator[World]:
    """All of it, installed in one go, in whatever order the cluster chooses."""
    world = set_up(cluster, print)
    try:
        yield world
    finally:
        world.close()


def test_the_example_for_production_and_the_recipe_without_keda_are_admitted(cluster: Cluster) -> None:
    """Without what this cluster has nothing for, as the page for production says."""
    cluster.remove()
    cluster.kubectl("create", "namespace", NAMESPACE)
    known = cluster.kinds() - {"Namespace"}
    example = [each for each in objects("production-example") if each["kind"] in known]
    assert {"Deployment", "Job", "NetworkPolicy", "PodDisruptionBudget"} <= {each["kind"] for each in example}
    for each in example:
        cluster.admit(json.dumps({**each, "metadata": {**each["metadata"], "namespace": NAMESPACE}}))
    cluster.admit(cluster.kubectl("kustomize", str(OVERLAYS / "hpa")))


def test_workers_that_start_before_their_database_and_before_init_wait_for_them(
    cluster: Cluster, installed: World
) -> None:
    assert installed.positions().keys() == set(range(installed.settings.partitions))
    assert restarts(cluster) == 0


def test_nothing_is_lost_or_doubled_whatever_happens_to_the_workers(
    cluster: Cluster, installed: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are scaled, killed, evicted, replaced, and replaced by a release that does not work, under load."""
    try:
        report = Journey(cluster, installed, print).run()
    except BaseException:
        print(cluster.diagnosis())
        raise
    with capsys.disabled():
        print("\nseconds from append to outcome, of events appended meanwhile:", *report, sep="\n")


def test_a_job_makes_the_derived_tables_from_the_ledger_again(cluster: Cluster, installed: World) -> None:
    cluster.kubectl("scale", f"deployment/{WORKER}", "--replicas=2")
    installed.append(*day(200))
    installed.drain(DEADLINE_S)
    changed = installed.admin.execute("update os_core.work_orders_current set turn_id = turn_id + 1")
    assert changed.rowcount > 0
    manifests = yaml.safe_load_all(cluster.kubectl("kustomize", str(OVERLAYS / "rebuild")))
    (job,) = (each for each in manifests if each["metadata"]["name"] == "core-tables-rebuild")
    cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(job))
    complete = ("job/core-tables-rebuild", "--for=condition=complete", f"--timeout={DEADLINE_S:.0f}s")
    cluster.kubectl("wait", *complete, timeout_s=300)
    assert f"{changed.rowcount} repaired" in cluster.kubectl("logs", "job/core-tables-rebuild")
    assert not installed.verify().differences
