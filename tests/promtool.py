"""Asks promtool which alerts fire for given series: those of a test, or those of real scrapes, as they would continue."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from core_tables.deploy.observability import committed

from .metric_tables import all_samples

STEP_S: Final = 15
RULES: Final = committed.COMMITTED / "core-tables.rules.yml"


def tool(name: str) -> str:
    """The path of a program of Debian's package prometheus; skips the test where it is not installed."""
    found = shutil.which(name, path=os.environ.get("CORE_TABLES_TEST_PROMETHEUS") or None)
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install prometheus)")
    return found


class Scrape(NamedTuple):
    """What a target answered, and when."""

    text: str
    at: float  # a time of day, in seconds


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


def continued(instance: str, scrapes: Sequence[Scrape], minutes: int) -> dict[str, str]:
    """The series of a target as two scrapes, some seconds apart, let expect them, if what they show lasts.

    A counter continues at its rate. A time continues with the clock if it moved between the two; an age that is above three
    seconds grows. Everything else stays as it is.
    """
    steps = minutes * 60 // STEP_S
    first, last = scrapes
    before = {(sample.name, *sorted(sample.labels.items())): sample.value for sample in all_samples(first.text)}
    series = {}
    for sample in all_samples(last.text):
        if not sample.name.startswith("core_tables_"):
            continue
        rate = 0.0
        value = sample.value
        moved = value - before.get((sample.name, *sorted(sample.labels.items())), value)
        if sample.name.endswith("_timestamp_seconds"):
            value, rate = value - last.at, 1.0 if moved > 0.5 else 0.0  # promtool's time begins at 0
        elif sample.name.endswith("_behind_seconds"):
            rate = 1.0 if value > 3 else 0.0
        elif sample.name.endswith(("_total", "_count", "_sum", "_bucket")):
            rate = moved / (last.at - first.at)
        labels = {**sample.labels, "instance": instance, "job": "core-tables"}
        name = f"{sample.name}{{{','.join(f'{key}={json.dumps(text)}' for key, text in labels.items())}}}"
        series[name] = f"{value:.3f}{rate * STEP_S:+.3f}x{steps}"
    return series
