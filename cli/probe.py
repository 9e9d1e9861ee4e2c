"""Whether the workers of this machine are alive, for the probes of a container."""

import http.client
import sys
from collections.abc import Mapping
from typing import Any

import click

from core_tables.cli import output
from core_tables.cli.probe_client import ask
from core_tables.consumer.health_file import read_health
from core_tables.schemas.reasons import SetupError
from core_tables.settings.environment import Settings
from core_tables.settings.forms import HttpAddress


@click.command(epilog=output.EXIT_CODES)
@click.option(
    "--ready",
    is_flag=True,
    help="Exit with 12 while a lane waits, or a worker is out of its group. For a readiness probe, which gates a rollout.",
)
@click.option(
    "--max-age",
    default=60.0,
    show_default=True,
    help="Seconds after which a worker that has not reported counts as dead.",
)
def health(ready: bool, max_age: float) -> None:
    """Check that the workers of this machine are alive.

    Asks the worker that listens on CORE_TABLES_HTTP. If that is not set, reads the file that CORE_TABLES_HEALTH_FILE names, which
    a worker writes once a second. Exits with 0 if all workers are alive, and with 4 if not.
    """
    settings = Settings()
    if (address := settings.http_address()) is not None:
        _ask_worker(address, ready=ready)
        return
    file = settings.health_file
    if file is None:
        raise SetupError(
            "neither CORE_TABLES_HTTP nor CORE_TABLES_HEALTH_FILE is set; set one for the worker and for this command",
            "machine",
        )
    files = [path for path in (file, *sorted(file.parent.glob(f"{file.name}.[0-9]*"))) if path.exists()]
    read = {path: read_health(path) for path in files}
    for path, (found, age) in read.items():
        output.out.print(
            f"{path.name}: {age:.0f} s ago, lanes: {found.opened} folded, {found.waiting} waiting, {found.stopped} stopped"
        )
    found_all = [found for found, _ in read.values()]
    if not read or any(age > max_age for _, age in read.values()):
        output.err.print("not alive: no worker has reported in time; look at its log")
        sys.exit(output.EXIT_NOT_FOUND)
    if silent := [found.audit_silent_s for found in found_all if not found.alive]:
        output.err.print(
            f"not alive: an audit thread has been silent for {max(silent):.0f} s; look at the worker's log"
        )
        sys.exit(output.EXIT_NOT_FOUND)
    if ready and not all(found.ready for found in found_all):
        waiting, outside = sum(found.waiting for found in found_all), sum(not found.in_group for found in found_all)
        reasons = [f"{waiting} lanes wait for Kafka or Postgres"] if waiting else []
        reasons += [f"{outside} workers are not in their consumer group"] if outside else []
        output.err.print(f"not ready: {' and '.join(reasons)}; look at the worker's log")
        sys.exit(output.EXIT_PENDING)


def _ask_worker(address: HttpAddress, *, ready: bool) -> None:
    """Ask the worker, or the parent of several, and exit with 4 or 12 if it says no."""
    alive = ask(address, "/healthz")
    if alive is None or alive.status != http.client.OK:
        output.err.print(f"not alive: {'no answer' if alive is None else _causes(alive.body)}", markup=False)
        sys.exit(output.EXIT_NOT_FOUND)
    answer = ask(address, "/readyz")
    if answer is None or answer.status != http.client.OK:
        why = "no answer" if answer is None else _causes(answer.body)
        if ready:
            output.err.print(f"not ready: {why}", markup=False)
            sys.exit(output.EXIT_PENDING)
        output.out.print(f"alive, but not ready: {why}", markup=False)
    else:
        output.out.print("alive and ready")


def _causes(body: Mapping[str, Any]) -> str:
    """What a worker, or each of several, says is wrong."""
    found = []
    for worker in body.get("workers", [body]):
        problems = worker["problems"]
        for problem in [{"cause": problems}] if isinstance(problems, str) else problems:
            lane = problem.get("lane")
            found.append(problem["cause"] if lane is None else f"lane {lane}: {problem['cause']}")
    return "; ".join(dict.fromkeys(found))
