"""The documentation names what there is: the reference lists the public surface, and nothing else."""

import re
from pathlib import Path

import core_tables

REFERENCE = Path(__file__).parent.parent / "docs" / "reference.md"


def test_the_reference_lists_every_public_name_once() -> None:
    listed = re.findall(r"^::: core_tables\.(\w+)$", REFERENCE.read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(set(core_tables.__all__) - {"__version__"})
