"""deploy/kubernetes/components: what is there for autoscalers and for the Prometheus operator."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .manifests import needs_kubectl, objects, ours

pytestmark = needs_kubectl
DURATION = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"


class Read(BaseModel):
    """A part of an object that is read as it is here, and has nothing else; the API server drops what it does not know."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Endpoint(Read):
    """https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PodMetricsEndpoint"""

    port: str
    path: str
    interval: str = Field(pattern=DURATION)


class Selector(Read):
    """Which pods."""

    labels: dict[str, str] = Field(alias="matchLabels")


class PodMonitor(Read):
    """https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PodMonitorSpec"""

    selector: Selector
    endpoints: list[Endpoint] = Field(alias="podMetricsEndpoints")


class Rule(Read):
    """https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.Rule"""

    alert: str
    expr: str
    lasting: str = Field(alias="for", pattern=DURATION)
    labels: dict[str, str]
    annotations: dict[str, str]


class Rules(Read):
    """https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.RuleGroup"""

    name: str
    rules: list[Rule]


class PrometheusRule(Read):
    """https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PrometheusRuleSpec"""

    groups: list[Rules]


def the(kind: str, overlay: str) -> dict[str, Any]:
    """The one object of a kind."""
    (found,) = (each["spec"] for each in objects(overlay) if each["kind"] == kind)
    return dict(found)


def test_both_autoscalers_keep_to_one_range_and_pace() -> None:
    """Postgres is the limit of both, and both have to be as slow as a rebalance asks for."""
    keda, kubernetes = the("ScaledObject", "production-example"), the("HorizontalPodAutoscaler", "recipes")
    assert (kubernetes["minReplicas"], kubernetes["maxReplicas"]) == (keda["minReplicaCount"], keda["maxReplicaCount"])
    assert kubernetes["behavior"] == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]


def test_the_prometheus_operator_reads_all_of_the_alerts() -> None:
    assert PrometheusRule.model_validate(the("PrometheusRule", "production-example")).groups


def test_the_prometheus_operator_scrapes_workers_and_the_monitor() -> None:
    monitor = PodMonitor.model_validate(the("PodMonitor", "production-example"))
    (endpoint,) = monitor.endpoints
    pods = ours("production-example")
    ports = {name: [port["name"] for port in pod["containers"][0].get("ports", [])] for name, pod in pods.items()}
    labels = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in objects("production-example")
        if each["kind"] in {"Deployment", "Job"}
    }
    scraped = {name for name in pods if monitor.selector.labels.items() <= labels[name].items() and ports[name]}
    assert scraped == {"core-tables-worker", "core-tables-monitor"}
    assert {port for name in scraped for port in ports[name]} == {endpoint.port}
