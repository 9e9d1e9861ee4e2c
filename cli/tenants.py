"""`tenants`: which tenants there are."""

import shlex

import click

from core_tables.cli import output, wiring
from core_tables.cli.formats import Format, emit_list, emit_more
from core_tables.cli.options import format_option, limit_option
from core_tables.projection.postgres import operator_reads
from core_tables.settings.environment import Settings


@click.command(epilog=output.EXIT_CODES)
@click.option("--after", default="", metavar="TENANT_ID", help="Start after this tenant.")
@limit_option
@format_option
def tenants(after: str, limit: int, form: Format) -> None:
    """List the tenants, with how many open work orders each has.

    Those that have work orders, by tenant_id. A count of 1000 means at least as many. As the role core_tables_operator: a
    reader sees one tenant at a time, and cannot ask which others there are.
    """
    found = operator_reads.tenants(wiring.operators(Settings()), after=after, page_size=limit)
    emit_list("tenants", [tenant._asdict() for tenant in found], form)
    if len(found) == limit:
        *_, last = found
        emit_more(f"--after {shlex.quote(last.tenant_id)}", form)
