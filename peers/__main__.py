"""The whole benchmark, with the peers: `make bench` and `make bench-quick`. It writes BENCHMARKS.md and its plots."""

from importlib.util import find_spec
from pathlib import Path

from bench.command import command
from bench.results import Results
from core_tables.schemas.reasons import SetupError
from peers import contenders, quix


def check() -> None:
    """Raise SetupError at once for what would otherwise be missed after an hour of measuring."""
    if find_spec("matplotlib") is None:
        raise SetupError("matplotlib is missing; run `make bench`, or install peers/requirements.txt", "machine")
    if not quix.PYTHON.exists():
        raise SetupError(f"{quix.PYTHON} is missing; run `make .venv/.bench`, or set QUIX_PYTHON", "machine")


def publish(into: Path, results: Results) -> None:
    """Write BENCHMARKS.md and its plots into a folder."""
    from peers import plots, report  # matplotlib takes a second, and the processes of a run do not need it

    plots.draw(into / "bench", results)
    report.write(into / "BENCHMARKS.md", results)


main = command("peers", contenders.field, into="docs", publish=publish, check=check)

if __name__ == "__main__":
    main()
