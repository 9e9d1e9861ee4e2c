"""Options that several commands share."""

import time

import click

tenant_option = click.option("--tenant", required=True, metavar="TENANT_ID", help="The tenant of the work orders.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")
now_option = click.option(
    "--now",
    type=click.IntRange(min=1),
    metavar="NS",
    help="Answer as of this time, in nanoseconds since 1970. Default: now.",
)


def at(now: int | None) -> int:
    """The time asked for, or this machine's."""
    return time.time_ns() if now is None else now
