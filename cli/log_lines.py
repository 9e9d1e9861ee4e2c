"""The log of a worker: JSON lines on standard error, each with an event code (docs/RUNBOOK.md, "Log lines")."""

import logging
import sys
import traceback
from typing import Any

import structlog
from structlog.typing import ExcInfo

from core_tables.schemas.reasons import CoreTablesError


def logger() -> Any:
    """The logger of the command."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.ExceptionRenderer(without_values),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    return structlog.get_logger()


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
