"""deploy/kubernetes: what the manifests say of settings, secrets, ports and rights."""

import re
from typing import Any

import pytest

from core_tables.cli.lazy_group import COMMANDS
from core_tables.settings.environment import Settings, unknown_variables

from .manifests import OVERLAYS, needs_kubectl, objects, ours, pods

pytestmark = [needs_kubectl, pytest.mark.parametrize("overlay", OVERLAYS)]


def environment(overlay: str, pod: dict[str, Any]) -> dict[str, str]:
    """The variables of a pod's container, those of its ConfigMap included."""
    (container,) = pod["containers"]
    maps = {each["metadata"]["name"]: each["data"] for each in objects(overlay) if each["kind"] == "ConfigMap"}
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        variables |= maps[source["configMapRef"]["name"]]
    return variables | {each["name"]: each["value"] for each in container.get("env", [])}


def test_every_variable_is_a_setting_and_its_value_is_accepted(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, pod in ours(overlay).items():
        variables = environment(overlay, pod)
        assert not unknown_variables(variables), name
        for variable, value in variables.items():
            if not variable.endswith("_FILE"):
                monkeypatch.setenv(variable, value)
        assert Settings().kafka_servers() == variables["CORE_TABLES_BOOTSTRAP_SERVERS"]


def test_every_container_runs_a_command_that_there_is(overlay: str) -> None:
    for name, pod in ours(overlay).items():
        (container,) = pod["containers"]
        command, *_ = container["args"]
        assert command in COMMANDS, name


def test_every_secret_file_is_mounted(overlay: str) -> None:
    for name, pod in ours(overlay).items():
        (container,) = pod["containers"]
        (mount,) = container["volumeMounts"]
        for variable, value in environment(overlay, pod).items():
            if variable.endswith("_FILE"):
                assert value.startswith(f"{mount['mountPath']}/"), (name, variable)


def test_only_init_has_the_login_of_the_administrator(overlay: str) -> None:
    for name, pod in ours(overlay).items():
        secrets = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
        variables = environment(overlay, pod)
        is_init = name.startswith("core-tables-init")
        assert ("core-tables-admin" in secrets) is is_init, name
        assert ("CORE_TABLES_POSTGRES_DSN_FILE" in variables) is is_init, name


def test_the_secrets_that_are_generated_have_the_keys_that_pods_read(overlay: str) -> None:
    generated = {each["metadata"]["name"]: set(each["data"]) for each in objects(overlay) if each["kind"] == "Secret"}
    for name, pod in ours(overlay).items():
        (secret,) = (volume["secret"]["secretName"] for volume in pod["volumes"])
        read = {value.rpartition("/")[2] for key, value in environment(overlay, pod).items() if key.endswith("_FILE")}
        if generated:
            assert read <= generated[secret], name
        assert read, name


def test_the_port_of_probes_and_metrics_is_one(overlay: str) -> None:
    for name, pod in ours(overlay).items():
        (container,) = pod["containers"]
        address = environment(overlay, pod).get("CORE_TABLES_HTTP")
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        assert ports == ({} if address is None else {"http": int(address.rpartition(":")[2])}), name
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                assert container[probe]["httpGet"]["port"] == "http", name
    for policy in (each for each in objects(overlay) if each["kind"] == "NetworkPolicy"):
        (rule,) = policy["spec"]["ingress"]
        assert [port["port"] for port in rule["ports"]] == [9464]


def test_every_pod_is_restricted(overlay: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and no token of the cluster."""
    for name, pod in pods(overlay):
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
    for name, pod in ours(overlay).items():
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
        assert set(container["resources"]["limits"]) == {"memory"}, name


def test_the_job_and_the_workers_are_of_one_release(overlay: str) -> None:
    (image,) = {pod["containers"][0]["image"] for pod in ours(overlay).values()}
    (job,) = (name for name in ours(overlay) if name.startswith("core-tables-init"))
    suffix = job.removeprefix("core-tables-init").removeprefix("-")
    assert suffix in {"", re.split("[:@]", image)[-1].replace(".", "-")}


def test_an_autoscaler_and_a_fixed_number_of_workers_are_not_both_there(overlay: str) -> None:
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]
        for each in objects(overlay)
        if each["kind"] in {"ScaledObject", "HorizontalPodAutoscaler"}
    }
    for each in objects(overlay):
        if each["kind"] == "Deployment" and each["metadata"]["name"] in scaled:
            assert "replicas" not in each["spec"]
