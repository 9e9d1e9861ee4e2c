"""Which line and exit code an error ends the command with."""

import sys
from typing import NoReturn

from pydantic import ValidationError
from pydantic_settings import SettingsError

from core_tables.cli import output
from core_tables.kafka.client_settings import ClientSettingError
from core_tables.schemas.reasons import CoreTablesError
from core_tables.settings.environment import wrong_setting


def end_with(error: Exception) -> None:
    """End the command with the line and the exit code of an error; return if it is none of ours, but a defect."""
    match error:
        case ClientSettingError():
            _fail_usage(f"CORE_TABLES_KAFKA is invalid: {error.why}")
        case CoreTablesError():
            output.fail(error)
        case ValidationError() | SettingsError():
            _fail_usage(wrong_setting(error))
        case _:
            _fail_as_kafka_does(error)


def _fail_as_kafka_does(error: Exception) -> None:
    from confluent_kafka import KafkaException  # the client, which a command without Kafka does not wait for

    from core_tables.kafka.errors import translate_kafka

    if isinstance(error, KafkaException):
        output.fail(translate_kafka(error))


def _fail_usage(why: str) -> NoReturn:
    output.err.print(f"error: {why}", markup=False)
    sys.exit(output.EXIT_USAGE)
