"""The core-tables command."""

import sys

import click

from core_tables.cli import output
from core_tables.cli.lazy_group import LazyGroup


class _Usage(click.UsageError):
    """Wrong arguments, said on as many lines as a terminal needs."""

    def __init__(self, error: click.UsageError) -> None:
        super().__init__(error.format_message(), error.ctx)

    def format_message(self) -> str:
        """The message behind click's `Error: `."""
        return "\n".join(output.lines_of(f"Error: {self.message}")).removeprefix("Error: ")


class _Root(LazyGroup):
    """Turns each of our errors into one line and an exit code. A traceback is a defect of Core Tables."""

    def invoke(self, ctx: click.Context) -> object:
        output.prepare()
        try:
            try:
                return super().invoke(ctx)
            finally:
                output.flush()
        except click.UsageError as error:
            raise _Usage(error) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            output.err.print("interrupted; what was done stays done, and you can run the same command again")
            sys.exit(output.EXIT_INTERRUPTED)
        except BrokenPipeError:  # nobody reads our output any more, as after `| head`
            output.abandon()
            sys.exit(output.EXIT_NO_READER)
        except Exception as error:
            from core_tables.cli.error_lines import end_with  # it imports the clients, which --help does not need

            end_with(error)
            raise


@click.group(
    cls=_Root,
    epilog=output.EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="core-tables")
@click.pass_context
def main(context: click.Context) -> None:
    """The system of record for work orders.

    \b
    To start:
      core-tables stack up                     start Kafka, Postgres and Redis
      core-tables init                         create topics, tables and roles
      core-tables worker                       fold the ledger until Ctrl-C
      core-tables append events.jsonl --wait   append events, show outcomes
      core-tables get --tenant acme order-1    show a current record

    Without settings, the commands use the local stack in the folder .core-tables. To use other servers, set
    CORE_TABLES_BOOTSTRAP_SERVERS, CORE_TABLES_POSTGRES_DSN and CORE_TABLES_REDIS_URL (docs/CONFIGURATION.md lists all
    settings).
    """
    if context.invoked_subcommand != "worker":  # which logs it
        from core_tables.settings.environment import misspelt_variables

        for name, advice in misspelt_variables().items():
            output.err.print(f"warning: {name} is not a setting, and is ignored; {advice}", markup=False)


if __name__ == "__main__":
    main()
