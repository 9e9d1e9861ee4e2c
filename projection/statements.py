"""The SQL statements and Lua scripts of this room, one per file, by name."""

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString


@cache
def sql(name: str) -> LiteralString:
    """The statement of sql/<name>.sql. It is our own file, never assembled from values, hence literal."""
    text: LiteralString = (files("core_tables.projection") / "sql" / f"{name}.sql").read_text("utf-8")
    return text


@cache
def sql_of_one_row(name: str) -> str:
    """The statement sql/<name>.sql, which takes rows as columns, for one row that is given as its values."""
    columns = re.compile(r"unnest\((\s*%b::[^()]*)\)(?=\s+as \w+ \()")
    text, found = columns.subn(lambda taken: f"(values ({taken[1].replace('[]', '')}))", sql(name))
    if found != 1:
        raise ValueError(f"{name} takes no rows as columns")
    return text


@cache
def lua(name: str) -> str:
    """The script of lua/<name>.lua."""
    return (files("core_tables.projection") / "lua" / f"{name}.lua").read_text("utf-8")
