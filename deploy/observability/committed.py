"""Writes the files that Prometheus, its operator on Kubernetes, and Grafana read: `make generate`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from core_tables.deploy.observability.alerts import rules
from core_tables.deploy.observability.dashboards import DASHBOARDS, dashboard_json

COMMITTED: Final = Path(__file__).parent
OF_OPERATOR: Final = "../kubernetes/components/monitoring/prometheusrule.yaml"


def files() -> Mapping[str, str]:
    """The text of each file, by its path from this folder."""
    dashboards = {f"core-tables-{dashboard.name}.json": dashboard_json(dashboard) for dashboard in DASHBOARDS}
    return {"core-tables.rules.yml": rules(), OF_OPERATOR: _for_operator(rules()), **dashboards}


def _for_operator(text: str) -> str:
    """A file of rules as an object of Kubernetes."""
    head, *lines = text.splitlines()
    return "\n".join(
        [
            head,
            "apiVersion: monitoring.coreos.com/v1",
            "kind: PrometheusRule",
            "metadata:",
            "  name: core-tables",
            "spec:",
            *(f"  {line}" for line in lines),
            "",
        ]
    )


if __name__ == "__main__":
    for name, text in files().items():
        (COMMITTED / name).write_text(text, "utf-8")
