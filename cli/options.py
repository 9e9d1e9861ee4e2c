"""Options that several commands share."""

import functools
import json
import shlex
import time
from collections.abc import Callable
from typing import Any

import click

from core_tables.cli.formats import Format
from core_tables.cli.times import TimeType
from core_tables.projection.postgres.tenant_reads import Cursor
from core_tables.settings.environment import Settings


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


def _given_tenant(ctx: click.Context, _option: click.Parameter, value: str | None) -> str:
    if value is None:
        raise click.UsageError("which tenant? Give --tenant TENANT_ID, or set CORE_TABLES_TENANT", ctx)
    return value


tenant_option = click.option(
    "--tenant",
    default=lambda: Settings().tenant,
    callback=_given_tenant,
    metavar="TENANT_ID",
    help="The tenant of the work orders. Default: CORE_TABLES_TENANT.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--format`, and `--json` in short, as the parameter `form`."""

    @click.option(
        "--format",
        "form",
        type=click.Choice([form.value for form in Format]),
        help="How to print: table (the default), json (one document a line) or csv.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
    @functools.wraps(command)
    def with_form(*arguments: Any, form: str | None, as_json: bool, **options: Any) -> Any:
        if as_json and form not in (None, Format.JSON):
            raise click.UsageError(f"--json and --format {form} contradict each other: give one of them")
        return command(*arguments, form=Format.JSON if as_json else Format(form or Format.TABLE), **options)

    return with_form


def time_option(*names: str, help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: A002 - as click has it
    """An option that takes a time (times.py)."""
    return click.option(*names, type=TimeType(), metavar="TIME", help=help)


now_option = time_option("--now", help="Answer as of this time. Default: now.")
since_option = time_option(
    "--since", help="From this time on: 2h (ago), 2026-01-15, 2026-01-15T08:00:00Z, or nanoseconds."
)
until_option = time_option("--until", help="Up to this time, in the same forms.")
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
