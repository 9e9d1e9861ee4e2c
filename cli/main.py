"""The core-tables command."""

import os
import sys
from typing import NoReturn

import click
from confluent_kafka import KafkaException
from pydantic import ValidationError
from pydantic_settings import SettingsError

from core_tables.cli import output
from core_tables.cli.append import append, cancel
from core_tables.cli.demo import demo
from core_tables.cli.due import due, due_tenants
from core_tables.cli.history import correlation, created, key, ledger, outcome
from core_tables.cli.init import init
from core_tables.cli.listing import approvals, closed, list_by_status, pending
from core_tables.cli.operate import stack, worker
from core_tables.cli.probe import health
from core_tables.cli.read import get, lease, steps
from core_tables.cli.records import audit, refused
from core_tables.cli.schemas import schemas
from core_tables.cli.status import status
from core_tables.cli.verify import rebuild, verify
from core_tables.kafka.errors import ClientSettingError, translate_kafka
from core_tables.schemas.reasons import CoreTablesError
from core_tables.settings.environment import unknown_variables, wrong_setting


class _Root(click.Group):
    """Turns each of our errors into one line and an exit code. A traceback is a defect of Core Tables."""

    def invoke(self, ctx: click.Context) -> object:
        output.prepare()
        try:
            try:
                return super().invoke(ctx)
            finally:
                output.flush()
        except ClientSettingError as error:
            _fail_usage(f"CORE_TABLES_KAFKA is invalid: {error.why}")
        except CoreTablesError as error:
            output.fail(error)
        except (ValidationError, SettingsError) as error:
            _fail_usage(wrong_setting(error))
        except KafkaException as error:
            output.fail(translate_kafka(error))
        except KeyboardInterrupt:
            output.err.print("interrupted; what was done stays done, and you can run the same command again")
            sys.exit(output.EXIT_INTERRUPTED)
        except BrokenPipeError:  # nobody reads our output any more, as after `| head`
            output.abandon()
            sys.exit(output.EXIT_NO_READER)


def _fail_usage(why: str) -> NoReturn:
    output.err.print(f"error: {why}", markup=False)
    sys.exit(output.EXIT_USAGE)


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
        for name, advice in unknown_variables(os.environ).items():
            output.err.print(f"warning: {name} is not a setting, and is ignored; {advice}", markup=False)


for command in (
    *(stack, init, worker, append, cancel, get, steps, lease, ledger, created, outcome, key, correlation),
    *(pending, list_by_status, closed, approvals, due, due_tenants),
    *(audit, refused, schemas, verify, rebuild, status, health, demo),
):
    main.add_command(command)

if __name__ == "__main__":
    main()
