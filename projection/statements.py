"""The SQL statements and Lua scripts of this room, one per file, by name."""

from functools import cache
from importlib.resources import files
from typing import LiteralString


@cache
def sql(name: str) -> LiteralString:
    """The statement of sql/<name>.sql. It is our own file, never assembled from values, hence literal."""
    text: LiteralString = (files("core_tables.projection") / "sql" / f"{name}.sql").read_text("utf-8")
    return text


@cache
def lua(name: str) -> str:
    """The script of lua/<name>.lua."""
    return (files("core_tables.projection") / "lua" / f"{name}.lua").read_text("utf-8")
