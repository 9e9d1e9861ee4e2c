"""A group of commands that are imported when they are used."""

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple

import click
from click.shell_completion import CompletionItem


class Listed(NamedTuple):
    """A command: the module that has it, its name there, and its line in the list of commands."""

    module: str
    name: str
    line: str


# A test holds the lines against the commands.
COMMANDS: Final[Mapping[str, Listed]] = {
    "append": Listed("append", "append", "Append the events of a file of JSON lines."),
    "approvals": Listed("listing", "approvals", "List the work orders that wait for a user's approval."),
    "audit": Listed("trail", "audit", "Show the newest events of the audit trail, one per outcome."),
    "cancel": Listed("append", "cancel", "Cancel a work order that is in DRAFT, CLARIFY or CONFIRM."),
    "closed": Listed("listing", "closed", "List the work orders that were closed after an event."),
    "config": Listed("config", "config", "Show the settings in use, and where each is from."),
    "console": Listed("console", "console", "Show the ledger in a browser, read-only."),
    "correlation": Listed("history", "correlation", "Show all records of a correlation id, oldest first."),
    "demo": Listed("demo", "demo", "Start the local stack and send a day of events through it."),
    "doctor": Listed(
        "doctor", "doctor", "Check certificates, connections, versions, rights, topics, tables and clocks."
    ),
    "due": Listed("due", "due", "Show what is due: retries, timeouts, leases, approvals."),
    "due-tenants": Listed("due", "due_tenants", "Show which tenants have something due, and how much."),
    "get": Listed("read", "get", "Show the current record of a work order, or an earlier one."),
    "grants": Listed("grants", "grants", "Print the commands that give each program the least rights."),
    "health": Listed("probe", "health", "Check that the workers of this machine are alive."),
    "init": Listed("init", "init", "Create the topics, tables, roles and lanes that are missing."),
    "key": Listed("history", "key", "Show the event that an idempotency key is bound to."),
    "lease": Listed("read", "lease", "Show the active lease of a work order, or its last one."),
    "ledger": Listed("history", "ledger", "Show the events of a tenant or of one work order, oldest first."),
    "list": Listed("listing", "list_work_orders", "List work orders: by status, of a requester, or closed lately."),
    "monitor": Listed("monitor", "monitor", "Serve metrics of the ledger as a whole until Ctrl-C."),
    "outcome": Listed("history", "outcome", "Show the outcome of an append."),
    "pending": Listed("listing", "pending", "Show the pending list of a requester, most recent first."),
    "rebuild": Listed("verify", "rebuild", "Replace the rows that differ from the fold of the ledger."),
    "refused": Listed("refusals", "refused", "Show refused records: why they were refused, and their bytes."),
    "schemas": Listed("schemas", "schemas", "Show the registered writer schemas."),
    "stack": Listed("operate", "stack", "Start and stop Kafka, Postgres and Redis on this machine."),
    "status": Listed("status", "status", "Show how far each lane is folded and audited, and which have stopped."),
    "steps": Listed("read", "steps", "Show the step attempts of a work order."),
    "tenants": Listed("tenants", "tenants", "List the tenants, with how many open work orders each has."),
    "verify": Listed("verify", "verify", "Compare the tables and the cache with the fold of the ledger."),
    "worker": Listed("operate", "worker", "Fold the ledger until Ctrl-C or SIGTERM."),
}


class LazyGroup(click.Group):
    """Imports a command when it runs: the clients of Kafka, Postgres and Redis take 0.3 s, for which `--help` does not wait."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in alphabetical order."""
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, or None if there is none."""
        listed = COMMANDS.get(cmd_name)
        if listed is None:
            return super().get_command(ctx, cmd_name)
        command: Any = getattr(import_module(f"core_tables.cli.{listed.module}"), listed.name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click has it; a name that is no command is answered with those that are like it."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(next(iter(args), ""), self.list_commands(ctx))
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {' or '.join(near)}?", ctx) from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin with what was typed, from the list, so that Tab waits for no client."""
        found = [CompletionItem(name, help=each.line) for name, each in COMMANDS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - it overrides
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, listed.line) for name, listed in sorted(COMMANDS.items())])
