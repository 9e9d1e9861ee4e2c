"""An optional compiled build: `CORE_TABLES_COMPILED=1 pip install .` compiles the hot, pure modules with mypyc.

It needs mypy and a C compiler, and gives a wheel for this machine's Python. Without the variable nothing here has an effect:
the package is what pyproject.toml says, in pure Python.
"""

import os
import sys
from typing import Any

from setuptools import setup

# Modules that define structs are left out: mypyc drops a class's keywords, such as frozen and gc.
HOT = (
    *(
        f"consumer/{name}.py"
        for name in ("audit_emitter", "audit_encoding", "audit_queue", "fetcher", "lane", "polled_batch")
    ),
    *(f"projection/fold/{name}.py" for name in ("batch", "collect", "decide", "evolve", "needs")),
    *(f"projection/postgres/{name}.py" for name in ("from_rows", "loading", "pipeline", "rows", "store")),
    *(f"projection/cache/{name}.py" for name in ("entries", "pending_cache", "snapshots")),
    *(
        f"schemas/{name}.py"
        for name in (
            "audit",
            "audit_event_v1",
            "avro_schema",
            "decoder",
            "encoder",
            "identity",
            "json_form",
            "ledger_event_v1",
            "text",
            "traceparent",
            "validation",
            "vocabulary",
            "wire",
        )
    ),
)


def compiled() -> list[Any]:
    """The extension modules; src/core_tables gives the rooms their import names."""
    # Tools that build a wheel run this several times before, for its metadata, which is the same without them.
    if os.environ.get("CORE_TABLES_COMPILED") != "1" or "bdist_wheel" not in sys.argv:
        return []
    from mypyc.build import mypycify

    level = os.environ.get("MYPYC_OPT_LEVEL", "3")  # the test builds without the optimizer, in two thirds of the time
    modules: list[Any] = mypycify([f"src/core_tables/{path}" for path in HOT], opt_level=level)
    return modules


setup(ext_modules=compiled())
