"""A release with a defect: its fold fails at every record. A ConfigMap brings this file into a worker's pod."""

from typing import Any

from core_tables.cli.main import main
from core_tables.consumer import worker


def broken(*_arguments: Any, **_named: Any) -> Any:
    """In the place of the fold."""
    raise ZeroDivisionError("planted")


if __name__ == "__main__":
    worker.fold_in_parts = broken  # type: ignore[attr-defined]
    main()
