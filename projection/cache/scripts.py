"""The Lua scripts by name, one per file."""

from functools import cache
from importlib.resources import files


@cache
def lua(name: str) -> str:
    """The text of lua/<name>.lua."""
    return (files("core_tables.projection.cache") / "lua" / f"{name}.lua").read_text("utf-8")
