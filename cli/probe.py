"""Whether the workers of this machine are alive, for the probes of a container."""

import sys

import click

from core_tables.cli import output
from core_tables.cli.environment import Settings
from core_tables.consumer.health_file import read_health
from core_tables.schemas.reasons import SetupError


@click.command(epilog=output.EXIT_CODES)
@click.option(
    "--ready",
    is_flag=True,
    help="Exit with 12 while a lane waits to be opened. For a readiness probe, which gates a rollout.",
)
@click.option(
    "--max-age",
    default=60.0,
    show_default=True,
    help="Seconds after which a worker that has not reported counts as dead.",
)
def health(ready: bool, max_age: float) -> None:
    """Check that the workers of this machine are alive.

    Reads the file that CORE_TABLES_HEALTH_FILE names, which a worker writes once a second. Exits with 0 if all workers that
    write it are alive, and with 4 if not.
    """
    file = Settings().health_file
    if file is None:
        raise SetupError("CORE_TABLES_HEALTH_FILE is not set; set it for the worker and for this command", "machine")
    files = [path for path in (file, *sorted(file.parent.glob(f"{file.name}.[0-9]*"))) if path.exists()]
    alive = bool(files)
    waiting = 0
    for path in files:
        found, age = read_health(path)
        alive, waiting = alive and age <= max_age, waiting + found.waiting
        output.out.print(
            f"{path.name}: {age:.0f} s ago, lanes: {found.opened} folded, {found.waiting} waiting, {found.stopped} stopped"
        )
    if not alive:
        output.err.print("not alive: no worker has reported in time; look at its log")
        sys.exit(output.EXIT_NOT_FOUND)
    if ready and waiting:
        output.err.print(f"not ready: {waiting} lanes wait for Kafka or Postgres; look at the worker's log")
        sys.exit(output.EXIT_PENDING)
