"""What workers, monitors and consoles log: lines on standard error, each with an event code (docs/RUNBOOK.md, "Log lines")."""

import logging
import os
import socket
import sys
import traceback
from importlib.metadata import version
from typing import Any, Literal

import structlog
from structlog.typing import ExcInfo

from core_tables.schemas.reasons import CoreTablesError
from core_tables.settings.environment import LogFormat, LogLevel, Settings

LoggingProgram = Literal["worker", "monitor", "console"]


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


def logger_of(settings: Settings, program: LoggingProgram, level: LogLevel | None = None) -> Any:
    """The logger of a program that serves: each line says which process wrote it, of which group and release.

    The field with the name of the process is called as the program is. `level` overrides the one of the settings.
    """
    process = f"core-tables-{program}-{socket.gethostname()}-{os.getpid()}"
    return logger(
        settings.log_level if level is None else level,
        settings.log_format,
        **{program: process},
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
