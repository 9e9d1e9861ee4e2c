"""Options that several commands share."""

import json
import shlex
import time
from typing import Any

import click

from core_tables.projection.postgres.tenant_reads import Cursor


class _CursorType(click.ParamType[Cursor]):
    """A cursor as the commands print it: a JSON array."""

    name = "cursor"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Cursor:
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if not isinstance(found, list):
            self.fail("a cursor is the JSON array that the page before ended with", param, ctx)
        return tuple(found)


tenant_option = click.option("--tenant", required=True, metavar="TENANT_ID", help="The tenant of the work orders.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")
now_option = click.option(
    "--now",
    type=click.IntRange(min=1),
    metavar="NS",
    help="Answer as of this time, in nanoseconds since 1970. Default: now.",
)

after_option = click.option(
    "--after",
    type=_CursorType(),
    metavar="CURSOR",
    help="Start where the page with this cursor ended; each page prints its own.",
)
limit_option = click.option(
    "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at most."
)


def cursor_text(cursor: Cursor) -> str:
    """A cursor as `--after` takes it, in quotes of the shell."""
    return shlex.quote(json.dumps(cursor))


def at(now: int | None) -> int:
    """The time asked for, or this machine's."""
    return time.time_ns() if now is None else now
