"""The log of a worker: lines on standard error, each with an event code (docs/RUNBOOK.md, "Log lines")."""

import logging
import sys
import traceback
from importlib.metadata import version
from typing import Any

import structlog
from structlog.typing import ExcInfo

from core_tables.kafka.group import worker_client_id
from core_tables.schemas.reasons import CoreTablesError
from core_tables.settings.environment import LogFormat, LogLevel, Settings


def logger(level: LogLevel = "info", format_: LogFormat = "json", **fields: str) -> Any:
    """The logger of the command; every line has `fields`."""
    as_text = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.ExceptionRenderer(without_values),
            structlog.processors.JSONRenderer() if format_ == "json" else as_text,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    return structlog.get_logger().bind(**fields)


def logger_of(settings: Settings) -> Any:
    """The logger of a program that serves: each line says which worker wrote it, of which group and release."""
    return logger(
        settings.log_level,
        settings.log_format,
        worker=worker_client_id(),
        group=settings.group_id,
        version=version("core-tables"),
    )


def without_values(exc_info: ExcInfo) -> str:
    """A traceback as Python prints it, with the messages of our own errors only: others may quote a payload."""
    lines = list[str]()
    error: BaseException | None
    _, error, _ = exc_info
    while error is not None:
        message = f": {error.message}" if isinstance(error, CoreTablesError) else ""
        name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        lines = [*traceback.format_tb(error.__traceback__), f"{name}{message}\n", *lines]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "".join(lines)
