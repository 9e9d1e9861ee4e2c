"""Which line and exit code an error ends the command with."""

import sys
from typing import NoReturn

from confluent_kafka import KafkaException
from pydantic import ValidationError
from pydantic_settings import SettingsError

from core_tables.cli import output
from core_tables.kafka.errors import ClientSettingError, translate_kafka
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
        case KafkaException():
            output.fail(translate_kafka(error))


def _fail_usage(why: str) -> NoReturn:
    output.err.print(f"error: {why}", markup=False)
    sys.exit(output.EXIT_USAGE)
