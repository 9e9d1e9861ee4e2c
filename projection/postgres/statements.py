"""The SQL statements, one per file, by name."""

from functools import cache
from importlib.resources import files
from typing import LiteralString


@cache
def sql(name: str) -> LiteralString:
    """The statement of sql/<name>.sql. It is our own file, never assembled from values, and therefore literal."""
    text: LiteralString = (files("core_tables.projection.postgres") / "sql" / f"{name}.sql").read_text("utf-8")
    return text
