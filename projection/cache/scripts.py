"""The Lua scripts, one per file, by name."""

from functools import cache
from importlib.resources import files


@cache
def lua(name: str) -> str:
    """The script of lua/<name>.lua."""
    return (files("core_tables.projection.cache") / "lua" / f"{name}.lua").read_text("utf-8")
