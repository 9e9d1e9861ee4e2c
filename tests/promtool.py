"""Asks promtool which alerts fire for given series."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from core_tables.deploy.observability import committed

STEP_S: Final = 15
RULES: Final = committed.COMMITTED / "core-tables.rules.yml"


def tool(name: str) -> str:
    """The path of a program of Debian's package prometheus; skips the test where it is not installed."""
    found = shutil.which(name, path=os.environ.get("CORE_TABLES_TEST_PROMETHEUS") or None)
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install prometheus)")
    return found


def firing(folder: Path, series: Mapping[str, str], minutes: int, expected: set[str]) -> None:
    """Fail unless exactly the expected alerts fire after some minutes of these series (in promtool's notation)."""
    case: dict[str, Any] = {
        "interval": f"{STEP_S}s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(expected)],
            }
        ],
    }
    path = folder / "case.json"
    path.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": f"{STEP_S}s", "tests": [case]}))
    done = subprocess.run([tool("promtool"), "test", "rules", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
