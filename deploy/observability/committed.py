"""Writes the files that Prometheus and Grafana read: `make generate`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from core_tables.deploy.observability.alerts import rules
from core_tables.deploy.observability.dashboards import DASHBOARDS, dashboard_json

COMMITTED: Final = Path(__file__).parent


def files() -> Mapping[str, str]:
    """The text of each file, by its name."""
    dashboards = {f"core-tables-{dashboard.name}.json": dashboard_json(dashboard) for dashboard in DASHBOARDS}
    return {"core-tables.rules.yml": rules(), **dashboards}


if __name__ == "__main__":
    for name, text in files().items():
        (COMMITTED / name).write_text(text, "utf-8")
